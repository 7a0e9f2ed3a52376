"""The documentation as a site: it builds, says what the pages say, and loads nothing from elsewhere."""

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the site needs charlm[docs]")
pytest.importorskip("material", reason="the site needs charlm[docs]")
from markdown_it import MarkdownIt

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
PARTS = ("h1", "h2", "h3", "h4", "li", "ol", "ul", "pre", "code", "table", "tr", "td", "em", "strong", "img")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr  # a link to nothing, or a page that the navigation lacks
    return folder


def built_page(site: Path, page: Path) -> str:
    path = site / page.relative_to(DOCS)
    return path.with_name("index.html" if path.name == "README.md" else f"{path.stem}.html").read_text("utf-8")


def article(text: str) -> str:
    """The part of a built page that its Markdown is, as another program would have made it."""
    (content,) = re.findall(r"<article[^>]*>(.*)</article>", text, re.S)
    return re.sub(r'<a class="headerlink".*?</a>', "", content)


def words(text: str) -> str:
    return re.sub(r"\s+", "", html.unescape(re.sub(r"<[^>]+>", "", text)))


def test_each_page_says_in_the_site_what_it_says_on_a_code_host(site: Path) -> None:
    commonmark = MarkdownIt("commonmark", {"html": True}).enable("table")
    for page in PAGES:
        expected = commonmark.render(page.read_text(encoding="utf-8"))
        content = article(built_page(site, page))
        assert words(content) == words(expected), page
        for part in PARTS:
            found, there = (len(re.findall(rf"<{part}\b", text)) for text in (content, expected))
            assert found == there, (page, part)


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(PAGES)  # and the page for what is not found
    for page in pages:
        text = re.sub(r"<pre.*?</pre>", "", page.read_text(encoding="utf-8"), flags=re.S)
        loaded = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=\"?([^\"\s>]*)", text)
        assert loaded
        assert not [address for address in loaded if "//" in address], page
    for sheet in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import\s)[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_each_page_has_the_words_of_its_language_and_a_link_to_the_other(site: Path) -> None:
    for page in PAGES:
        name = page.relative_to(DOCS).as_posix()
        chinese = name.startswith("zh/")
        text = built_page(site, page)
        assert f'<html lang="{"zh" if chinese else "en"}"' in text, name
        equal = DOCS / (name.removeprefix("zh/") if chinese else f"zh/{name}")
        if not equal.exists():
            equal = DOCS / ("README.md" if chinese else "zh/README.md")
        link = os.path.relpath(equal, page.parent).replace("README.md", "index.html").replace(".md", ".html")
        assert f'<a href="{link}" class="md-tabs__link">' in text, name


def test_every_page_can_be_searched(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert len(found) == len(PAGES)
    separator = index["config"]["separator"]
    assert list(filter(None, re.split(separator, "梯度 model.hidden_size"))) == ["梯", "度", "model", "hidden_size"]
