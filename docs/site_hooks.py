"""What the pages need to become a site: `mkdocs.yml` calls these functions while it builds.

The pages are written for a code host, where they are read as well. Links that lead out of `docs`, such as to the
changelog, become plain text here, since the site does not have their targets. What Python's Markdown reads
otherwise than code hosts do is rewritten: answers in `<details>`, bars in the code of tables, and what belongs to
items of lists. Each page gets the words and the navigation of its own language.
"""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.nav import Link, Navigation
from mkdocs.structure.pages import Page

_LANGUAGES = {"": ("en", "English"), "zh/": ("zh", "中文")}  # by the folder of the pages
_CHINESE = "[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef“”—…]"  # characters and their punctuation


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the pages of a folder where the navigation names `folder/*`."""
    config.nav = _expand(config.nav or [], Path(config.docs_dir))
    return config


def _expand(entries: list[Any], docs: Path) -> list[Any]:
    out: list[Any] = []
    for entry in entries:
        title, value = next(iter(entry.items())) if isinstance(entry, dict) else (None, entry)
        if isinstance(value, list):
            value = _expand(value, docs)
        elif value.endswith("/*"):
            pages = sorted(
                (docs / value).parent.glob("*.md"), key=lambda path: (path.name != "README.md", path.name)
            )
            value = [path.relative_to(docs).as_posix() for path in pages]
        if value:
            out.append(value if title is None else {title: value})
    return out


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Ends the order of reading where the language changes."""
    for page in nav.pages:
        if page.next_page and _folder(page) != _folder(page.next_page):
            page.next_page.previous_page = None
            page.next_page = None
    return nav


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Adapts a page, see the module."""
    markdown = re.sub(r"^<details>$", '<details markdown="1">', markdown, flags=re.M)

    def plain(match: re.Match[str]) -> str:
        text, target = match.groups()
        path = os.path.normpath(os.path.join(os.path.dirname(page.file.src_uri), target.partition("#")[0]))
        if not path.startswith(".."):
            return match[0]
        name = path.removeprefix("../")
        return text if Path(name).stem in text else f"{text} (`{name}`)"

    markdown = re.sub(r"^\|.*$", lambda row: re.sub(r"`[^`]*`", _in_table, row[0]), markdown, flags=re.M)
    markdown = _widen_lists(markdown)
    return re.sub(r"\[([^]]*)\]\((\.\./[^)\s]*)\)", plain, markdown)


def _in_table(code: re.Match[str]) -> str:
    """Returns code in a table, in which `\\|` stands for a bar: Python's Markdown would show the backslash too."""
    if r"\|" not in code[0]:
        return code[0]
    text = html.escape(code[0].strip("`").replace(r"\|", "|"))
    return f"<code>{text.replace('|', '&#124;')}</code>"


def _widen_lists(markdown: str) -> str:
    """Indents what belongs to a list item by four spaces, as Python's Markdown wants it, not by two or three."""
    lines, width, in_code = [], 0, False
    for line in markdown.split("\n"):
        item = None if in_code else re.match(r"(?:-|\d\.) +", line)
        if item:
            width = len(item[0])
        elif line and not line.startswith(" " * width):
            width = 0
        if line.startswith("```"):
            in_code = not in_code
        inside = width and line.startswith(" " * width)
        lines.append(" " * (4 - width) + line if inside else line)
    return "\n".join(lines)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Joins the lines of Chinese paragraphs, where a browser would show a space for the end of a line."""
    if not _folder(page):
        return html
    parts = re.split(r"(<pre.*?</pre>)", html, flags=re.S)
    parts[::2] = [re.sub(rf"(?<={_CHINESE})\n *(?={_CHINESE})", "", part) for part in parts[::2]]
    return "".join(parts)


def on_page_context(context: dict[str, Any], page: Page, config: MkDocsConfig, nav: Navigation) -> dict[str, Any]:
    """Gives a page the words and the navigation of its own language, and a link to its equal in the other."""
    own = _folder(page)
    config.theme["language"] = _LANGUAGES[own][0]
    pages = {other.file.src_uri: other for other in nav.pages}
    chinese = next(item for item in nav.items if item.title == _LANGUAGES["zh/"][1])
    items = list(chinese.children) if own else [item for item in nav.items if item is not chinese]
    for folder, (_, title) in _LANGUAGES.items():
        if folder != own:
            equal = folder + page.file.src_uri.removeprefix(own)
            items.append(Link(title, pages[equal if equal in pages else f"{folder}README.md"].url))
    context["nav"] = Navigation(items, [other for other in nav.pages if _folder(other) == own])
    context["nav"].homepage = pages[f"{own}README.md"]
    return context


def _folder(page: Page) -> str:
    return "zh/" if page.file.src_uri.startswith("zh/") else ""
