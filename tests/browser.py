"""Debian's chromium, driven through playwright: what a page does, shows, complains of and asks the network for.

Where one of the two is missing, tests that need them are skipped and say why; in CI they fail.
"""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser as PlaywrightBrowser
    from playwright.sync_api import Page

# Nothing but what the page itself asks for may reach the network, and as root there is no sandbox.
_ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@dataclass
class Visit:
    """A page that is open.

    Attributes:
        page: playwright's.
        errors: messages of errors on the console, and of exceptions that nothing caught.
        requests: the addresses of everything that was asked for, but for the page itself.
    """

    page: "Page"
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Fails if there was an error, or if anything was asked for."""
        assert (self.errors, self.requests) == ([], [])


class Browser:
    """A browser that is running.

    Args:
        running: playwright's.
    """

    def __init__(self, running: "PlaywrightBrowser") -> None:
        self.running = running

    @contextmanager
    def open(self, path: Path, **settings: Any) -> Iterator[Visit]:
        """Opens a file in a fresh profile, and closes it again; by then there must be no error and no request.

        Args:
            path: an HTML file.
            **settings: of the profile, as playwright's `new_context` has them: `viewport`, `color_scheme`, …
        """
        context = self.running.new_context(**settings)
        try:
            page = context.new_page()
            visit, address = Visit(page), path.resolve().as_uri()

            def note_request(request: Any) -> None:
                if request.url.partition("#")[0] != address:
                    visit.requests.append(request.url)

            context.on("request", note_request)
            context.on("console", lambda message: message.type == "error" and visit.errors.append(message.text))
            context.on("weberror", lambda error: visit.errors.append(str(error.error)))
            page.goto(address)
            yield visit
            visit.check()
        finally:
            context.close()


def why_missing() -> str | None:
    """Returns why there is no browser here, if so."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed (make installs it)"
    if shutil.which("chromium") is None:
        return "chromium is not installed (apt-get install chromium)"
    return None


@contextmanager
def start_browser() -> Iterator[Browser]:
    """Starts the browser, and ends it; meanwhile nothing else may use asyncio."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS)
        try:
            yield Browser(running)
        finally:
            running.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser, for the tests of a module."""
    if reason := why_missing():
        pytest.fail(reason) if "CI" in os.environ else pytest.skip(reason)
    with start_browser() as started:
        yield started
