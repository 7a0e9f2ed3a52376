"""Help in plain text, the options grouped by purpose."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class Command(TyperCommand):
    """A command whose help has a section for each `rich_help_panel` of its parameters.

    Typer itself draws panels only as boxes, with Rich, which cuts and colours what it is given.
    """

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
