"""Help in plain text, the options grouped by purpose."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException


class Command(TyperCommand):
    """A command whose help has a section for each `rich_help_panel` of its parameters.

    Typer itself draws panels only as boxes, with Rich, which cuts and colours what it is given.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Says how to give an argument that begins with - where it was taken for an option."""
        try:
            return super().parse_args(ctx, args)
        except TyperException as error:
            if message := getattr(error, "message", None):
                error.message = message.replace("Value error, ", "")  # what pydantic puts before its own words
            sentences = any(parameter.metavar == "SENTENCE" for parameter in self.params)
            if sentences and getattr(error, "option_name", None):
                error.message = error.message.removesuffix(".") + (
                    "; write a sentence that begins with - after --, as in `charlm score RUN -- '- no'`"
                )
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the sections in the order in which their first parameters are declared."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                title = "Arguments" if parameter.param_type_name == "argument" else "Options"
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class Group(TyperGroup):
    """A group whose help has the whole first sentence of each command, wrapped instead of cut."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the names of the commands and what they do."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        shown = [(name, command) for name, command in commands if command is not None and not command.hidden]
        if shown:
            with formatter.section("Commands"):
                formatter.write_dl([(name, (command.help or "").partition("\n")[0]) for name, command in shown])
