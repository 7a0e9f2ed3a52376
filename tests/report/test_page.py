"""The page: what stands in it, that nothing breaks out of it, and what a redacted one leaves out."""

import base64
import hashlib
import html
import json
import platform
import random
import re
import shutil
import socket
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import charlm
import charlm.report
from charlm.report.contents import Contents, gather, name_runs
from charlm.report.page import PARTS, render, safe_json, to_safe_json, write_report
from charlm.text.corpus import Corpus
from pages import HOSTILE, Page, make_hostile, make_text, train

ASSETS = Path(charlm.report.__file__).parent / "assets"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "secret-corpus.txt"
    path.write_text(make_text(300), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    return train(corpus, tmp_path_factory.mktemp("runs") / "mixture-run", ngram=5)


@pytest.fixture(scope="module")
def contents(run: Path) -> Contents:
    return gather(charlm.load(run, device="cpu"))


@pytest.fixture(scope="module")
def page(contents: Contents) -> str:
    return render([contents])


@pytest.fixture(scope="module")
def redacted(run: Path) -> Contents:
    return gather(charlm.load(run, device="cpu"), redact=True)


# ------------------------------------------------------------------------------------------------- what is there


def test_every_part_is_there_in_its_order_and_says_how_to_read_it(page: str):
    found = Page(page)
    parts = [attrs["id"] for tag, attrs in found.elements if tag == "section" and "part" in str(attrs.get("class"))]
    assert parts == [f"r0-{name}" for name, _ in PARTS]
    for section in re.findall(r'<section class="part.*?(?=<section class="part|</main>)', page, re.S):
        assert re.search(r'<p class="how">\s*[A-Z]', section)
    assert "left-out" not in re.sub(r"<style>.*?</style>|<noscript>.*?</noscript>", "", page, flags=re.S)


def test_headings_go_down_one_level_at_a_time_and_the_text_has_its_title(page: str):
    headings = Page(page).headings
    assert headings[0] == (1, "secret-corpus.txt")
    levels = [level for level, _ in headings]
    assert all(below <= above + 1 for above, below in pairwise(levels))
    assert levels.count(1) == 1


def test_the_first_sentence_says_what_the_model_is_and_how_good(contents: Contents, page: str):
    assert contents.held_out
    (summary,) = re.findall(r'<p class="summary">(.*?)</p>', page, re.S)
    bits = contents.held_out.nats / 0.693147
    assert "An LSTM with 12 units, mixed with 5" in summary
    assert f"<strong>{bits:.2f} bits per character</strong>" in summary
    assert f"{contents.held_out.expert_nats[1] / 0.693147:.2f}" in summary  # n-grams alone


def test_a_mixture_gives_both_figures_and_the_price_of_fewer_bits(contents: Contents, page: str):
    assert contents.held_out
    mixed, alone = (nats / 0.693147 for nats in (contents.held_out.nats, contents.held_out.expert_nats[0]))
    (note,) = re.findall(r'<p class="fine">(.*?)</p>', page, re.S)
    assert f"it needs {alone:.2f} bits" in note
    assert f"the mixture needs {mixed:.2f}" in note
    assert re.search(r"costs (less than 0\.00001|[+-]0\.\d{5}) nats a character", note)


def test_each_chart_has_a_title_and_says_in_words_what_it_shows(page: str):
    figures = re.findall(r"<figure>(.*?)</figure>", page, re.S)
    assert len(figures) >= 8
    for figure in figures:
        (title,) = re.findall(r"<figcaption>(.+?)</figcaption>", figure)
        (label,) = re.findall(r'role="img" aria-label="(.+?)"', figure)
        assert label.startswith(f"{title}. ")
        assert re.search(r"\d", label.removeprefix(title))


def test_the_numbers_of_all_evaluations_can_be_read_without_sight(contents: Contents, page: str):
    assert contents.learning
    for row in contents.learning.evaluations:
        assert f">{row['validation_loss'] / 0.693147:.2f}</td>" in page
        assert f">{row['characters']:,}</td>" in page


def test_the_last_part_has_what_makes_the_run_again(contents: Contents, page: str):
    found = Page(page).text
    assert "hidden_size: 12" in found
    assert "charlm train config.yaml" in found
    assert f"charlm {charlm.__version__}" in found
    assert f"{contents.vocabulary_size} symbols" in found
    for symbol, count in contents.symbols[:5]:
        assert f"{symbol} {count:,}".strip() in found.replace("⏎", "\n")


def test_of_a_text_in_chinese_the_browser_is_told_so(tmp_path: Path):
    text = "".join(f"我在河边画第{n}张画，船很安静。\n" for n in range(200))
    (tmp_path / "t.txt").write_text(text, encoding="utf-8")
    found = gather(
        charlm.load(
            train(tmp_path / "t.txt", tmp_path / "run", steps=10, corpus={"framing": "lines"}), device="cpu"
        )
    )
    assert found.language == "zh"
    assert '<textarea id="r0-input" class="input" rows="2" maxlength="2000" lang="zh"' in render([found])


def test_several_runs_have_a_chooser_and_a_table(contents: Contents):
    second = replace(contents, name="other")
    found = Page(render([contents, second]))
    tabs = [attrs for tag, attrs in found.elements if attrs.get("role") == "tab"]
    panels = [attrs for tag, attrs in found.elements if attrs.get("role") == "tabpanel"]
    assert [tab["aria-selected"] for tab in tabs] == ["true", "false"]
    assert [tab["aria-controls"] for tab in tabs] == [panel["id"] for panel in panels]
    assert ["hidden" in panel for panel in panels] == [False, True]
    assert found.data("r1-data") == found.data("r0-data")
    assert "2 models of secret-corpus.txt" in found.text
    identifiers = [attrs["id"] for _, attrs in found.elements if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))


def test_runs_have_different_names(run: Path, tmp_path: Path):
    lm = charlm.load(run, device="cpu")
    assert name_runs([lm], redact=False) == ["mixture-run"]
    assert name_runs([lm, lm], redact=True) == ["LSTM 12 (1)", "LSTM 12 (2)"]
    assert len(set(name_runs([lm, lm], redact=False))) == 2


def test_the_page_is_written_whole_or_not_at_all(contents: Contents, tmp_path: Path):
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(AttributeError):
        write_report(path, [replace(contents, config=None)])  # type: ignore[arg-type]
    assert path.read_text() == "old"
    write_report(path, [contents])
    assert path.read_text(encoding="utf-8") == render([contents])
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_the_page_has_two_megabytes_at_most_beside_the_weights(tmp_path: Path):
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(3000)]
    lines = [" ".join(rng.choices(words, k=9)) for _ in range(20_000)]
    (tmp_path / "t.txt").write_text("\n".join(lines) + "\n")
    run = train(tmp_path / "t.txt", tmp_path / "run", ngram=6, steps=40)
    found = gather(charlm.load(run, device="cpu"))
    assert found.held_out
    assert len(found.held_out.excerpt) == 3000
    assert json.loads(found.network.json)["copied"]
    size = len(render([found]).encode())
    assert size - found.network.bytes * 4 // 3 < 2_000_000


# -------------------------------------------------------------------------------------------------------- security


def test_only_the_two_scripts_and_the_style_of_the_page_may_run(page: str):
    found = Page(page)
    (policy,) = (a["content"] for _, a in found.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy

    def digest(block: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}'"

    scripts = [block for tag, attrs, block in found.blocks if tag == "script" and "type" not in attrs]
    styles = [block for tag, _, block in found.blocks if tag == "style"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "script-src": " ".join(map(digest, scripts)),
        "style-src": digest(styles[0]),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert (len(scripts), len(styles)) == (2, 1)
    before = page[: page.index("Content-Security-Policy")]
    assert "<script" not in before
    assert "<style" not in before


def test_nothing_is_named_that_could_be_fetched_and_nothing_runs_from_an_attribute(page: str):
    for tag, attrs in Page(page).elements:
        assert tag not in ("img", "iframe", "object", "embed", "base", "audio", "video", "image", "use")
        for name, value in attrs.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("style", "src", "srcset", "action", "formaction"), (tag, name)
            if name == "href":
                assert str(value).startswith("#") or value == "data:,"
    assert "://" not in re.sub(r"<script type=.*?</script>", "", page, flags=re.S)
    assert "url(" not in (ASSETS / "page.css").read_text()
    assert "@import" not in (ASSETS / "page.css").read_text()


@pytest.mark.parametrize("text", [HOSTILE, "\u2028", "</SCRIPT >", "<!--<script>", "]]>", "\udcff", "&amp;"])
def test_json_in_the_page_gives_back_its_text_and_ends_no_element(text: str):
    written = to_safe_json({text: [text]})
    assert json.loads(written) == {text: [text]}
    assert not set(written) & set("<>&\u2028\u2029\u202e\x00\ud800\udcff")
    assert json.loads(safe_json(json.dumps({text: text}, ensure_ascii=False))) == {text: text}


def test_hostile_texts_cannot_break_out(contents: Contents, page: str):
    found = render([make_hostile(contents)])
    assert Page(found).elements != []
    tags = {tag for tag, _ in Page(page).elements}
    assert {tag for tag, _ in Page(found).elements} <= tags
    assert sum(tag == "script" for tag, _ in Page(found).elements) == 4
    assert not any(name.startswith("on") for _, attrs in Page(found).elements for name in attrs)
    body = Page(found).text
    assert body.count("<img src=x onerror=alert(2)>") > 10  # it is there, as text
    assert "{{7*7}}" in body
    assert not set(found) & set("\u2028\u2029\u202e\x00\ud800")
    assert "[U+202E]" in body
    found.encode()  # no half of a surrogate pair is left
    assert Page(found).data("r0-data")["samples"][0][0] == HOSTILE


def test_a_hostile_corpus_goes_through_training_into_the_page(tmp_path: Path):
    nasty = HOSTILE.replace("\x00", "").replace("\ud800", "")
    (tmp_path / "t.txt").write_text("".join(f"{nasty} {n}\n" for n in range(40)), encoding="utf-8")
    run = train(tmp_path / "t.txt", tmp_path / "<b>&run", ngram=4)
    found = render([gather(charlm.load(run, device="cpu"))])
    page = Page(found)
    assert not {"b", "img"} & {tag for tag, _ in page.elements}
    assert sum(tag == "script" for tag, _ in page.elements) == 4
    assert "<b>&run" in page.text
    assert "<" in page.data("r0-network")["vocabulary"]["symbols"]


# ------------------------------------------------------------------------------------------------------- redaction


def all_text(page: str) -> str:
    """All that a page could tell, however it is escaped."""
    found = Page(page)
    data = [json.loads(block) for _, attrs, block in found.blocks if attrs.get("type") == "application/json"]
    attributes = " ".join(str(value) for _, attrs in found.elements for value in attrs.values())
    texts: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, (list, dict)):
            for one in value.values() if isinstance(value, dict) else value:
                collect(one)
            if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
                texts.append("".join(value))  # of an excerpt, which is a list of characters

    collect(data)
    return "\x01".join([html.unescape(page), found.text, attributes, *texts])


def pieces_in(text: str, corpus: str) -> set[str]:
    pieces = {corpus[n : n + 20] for n in range(len(corpus) - 19)}
    return {text[n : n + 20] for n in range(len(text) - 19)} & pieces


def copy_with_samples(run: Path, to: Path, samples: str) -> Path:
    """Returns a copy of a run that wrote something else."""
    shutil.copytree(run, to)
    (to / "samples.txt").write_text(samples)
    return to


def test_a_redacted_page_has_no_piece_of_the_corpus_and_no_path(
    run: Path, corpus: Path, page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for owner in (socket, platform):
        monkeypatch.setattr(owner, "gethostname" if owner is socket else "node", lambda: "host-of-nobody")
    text = corpus.read_text(encoding="utf-8")
    quoting = copy_with_samples(run, tmp_path / "mixture-run", f"--- step 10\n{text[3000:3100]}\n\n")
    redacted = gather(charlm.load(quoting, device="cpu"), redact=True)
    found = all_text(render([redacted]))
    assert pieces_in(found, text) == set()
    for secret in ("secret-corpus", "mixture-run", str(corpus.parent), str(run.parent), "host-of-nobody"):
        assert secret not in found, secret
    assert pieces_in(all_text(page), text) != set()  # which the other page has
    assert "secret-corpus" in all_text(page)
    assert json.loads(redacted.network.json)["copied"] is None


def test_a_redacted_page_says_what_was_left_out_and_keeps_the_numbers(contents: Contents, redacted: Contents):
    assert set(redacted.missing) >= {"held_out", "experts", "connectivity", "units", "overlap"}
    page = render([redacted])
    for reason in redacted.missing.values():
        assert html.escape(reason) in page
    assert "This page is redacted" in page
    assert redacted.held_out
    assert contents.held_out
    assert redacted.held_out.by_class == contents.held_out.by_class
    assert "What is easy, what is hard" in page
    assert "The most surprising places" not in page


def test_samples_that_quote_are_left_out_of_a_redacted_page(run: Path, corpus: Path, tmp_path: Path):
    text = corpus.read_text(encoding="utf-8")
    written = f"--- step 10\nxx{text[500:540]}\n\n--- step 20\nhe{text[500:515]}zzz\n\n"
    quoting = copy_with_samples(run, tmp_path / "run", written)
    redacted = gather(charlm.load(quoting, device="cpu"), redact=True)
    assert redacted.learning
    assert [step for step, _ in redacted.learning.samples] == [20]
    assert "1 of 2 samples" in redacted.missing["samples"]


# ----------------------------------------------------------------------------------------------- what is not there


def test_without_the_corpus_the_page_is_made_without_the_parts_that_need_it(tmp_path: Path):
    (tmp_path / "gone.txt").write_text(make_text(60))
    run = train(tmp_path / "gone.txt", tmp_path / "run", steps=10)
    (tmp_path / "gone.txt").unlink()
    found = gather(charlm.load(run, device="cpu"))
    assert set(found.missing) >= {"held_out", "experts", "gradients", "units", "overlap"}
    assert found.learning
    assert found.learning.samples
    page = render([found])
    assert page.count("Not on this page:") >= 6
    assert "gone.txt" in found.missing["held_out"]
    assert "the page does not know the training text" in page.lower()
    assert Page(page).data("r0-data")["samples"]
    redacted = gather(charlm.load(run, device="cpu"), redact=True)
    assert "gone.txt" not in all_text(render([redacted]))
    assert redacted.learning
    assert redacted.learning.samples == []  # nothing can say whether they quote


def test_without_a_validation_split_the_page_says_so(tmp_path: Path):
    (tmp_path / "t.txt").write_text(make_text(60))
    config = {
        "corpus": {"path": str(tmp_path / "t.txt"), "validation": 0},
        "model": {"hidden_size": 6},
        "training": {"budget": "10 steps", "batch_size": 4, "sequence_length": 16},
    }
    charlm.train(config, out=tmp_path / "run")
    found = gather(charlm.load(tmp_path / "run", device="cpu"))
    assert "without a validation split" in found.missing["held_out"]
    page = render([found])
    assert "No text was held out" in page
    assert found.missing["overlap"] in page


def test_a_text_that_is_too_short_for_a_part_leaves_the_others(tiny_run: Path):
    found = gather(charlm.load(tiny_run, device="cpu"))
    assert found.held_out
    assert found.missing  # of a hundred held-out characters
    assert all(reason.endswith(".") and "--text" not in reason for reason in found.missing.values())
    render([found])


def test_progress_is_told_in_order_and_ends_with_all(tiny_run: Path):
    told: list[tuple[str, float]] = []
    gather(charlm.load(tiny_run, device="cpu"), progress=lambda what, share: told.append((what, share)))
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert len({what for what, _ in told}) == len(told) > 5


def test_the_corpus_is_read_once(tiny_run: Path, monkeypatch: pytest.MonkeyPatch):
    reads = []
    read = charlm.LanguageModel.corpus

    def counting(self: charlm.LanguageModel) -> Corpus:
        reads.append(self)
        return read(self)

    monkeypatch.setattr(charlm.LanguageModel, "corpus", counting)
    gather(charlm.load(tiny_run, device="cpu"))
    assert len(reads) == 1


# ---------------------------------------------------------------------------------------------------------- colours


def luminance(color: str) -> float:
    channels = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def read_tokens() -> dict[str, dict[str, str]]:
    css = (ASSETS / "page.css").read_text()
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part))
        for part in re.split(r"@media \(prefers-color-scheme: dark\)", css, maxsplit=1)
    )
    dark = {name: value for name, value in dark.items() if name in light}
    assert set(dark) == set(light)
    return {"light": light, "dark": dark}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_have_the_contrast_of_wcag_aa(scheme: str):
    colors = read_tokens()[scheme]
    grounds = ("paper", "surface", "sunken")
    backs = [name for name in colors if re.fullmatch(r"[spme]\d", name)]
    for ground in grounds:
        for text in ("ink", "muted", "c0", "c1", "c2", "c3", "c4", "good", "warn"):
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
        assert contrast(colors["edge"], colors[ground]) >= 3, ground
    for back in backs:
        assert contrast(colors["ink"], colors[back]) >= 4.5, back
    for mark, shades in (("stroke", "s2 s3 s4"), ("c0", "e0"), ("c1", "e1"), ("c2", "e2")):
        for back in shades.split():
            assert contrast(colors[mark], colors[back]) >= 3, (mark, back)
    assert contrast(colors["paper"], colors["c0"]) >= 4.5  # the button


def test_colours_stand_in_the_tokens_alone():
    css = re.sub(r"--[\w-]+: [^;]+;", "", (ASSETS / "page.css").read_text())
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b|rgb|hsl", css) == []
