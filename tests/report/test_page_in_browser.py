"""The page in a browser: it asks for nothing, and does what it says, by mouse, keys and touch."""

import base64
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import charlm
from browser import Browser, Visit
from charlm.language_model import LanguageModel
from charlm.report.contents import Contents, gather
from charlm.report.network_data import with_dequantized_weights
from charlm.report.page import write_report
from pages import HOSTILE, make_hostile, make_text, train

pytestmark = pytest.mark.slow

LAPTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}
MUCH = 1_000_000  # characters
INPUT, SHADED, PANEL = "#r0-input", "#r0-shaded .text", "#r0-shaded .panel"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    (folder / "corpus.txt").write_text(make_text(300), encoding="utf-8")
    return train(folder / "corpus.txt", folder / "run", ngram=5)


@pytest.fixture(scope="module")
def network(run: Path) -> LanguageModel:
    """The network as the page has it."""
    return with_dequantized_weights(charlm.load(run, device="cpu"))


@pytest.fixture(scope="module")
def contents(run: Path) -> Contents:
    return gather(charlm.load(run, device="cpu"))


@pytest.fixture(scope="module")
def page(contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "page.html"
    write_report(path, [contents])
    return path


@pytest.fixture
def visit(browser: Browser, page: Path) -> Iterator[Visit]:
    with browser.open(page, viewport=LAPTOP) as opened:
        yield opened


def fill(visit: Visit, text: str) -> None:
    """Writes a text into the box, in place of what stands there."""
    visit.page.fill(INPUT, text)
    settle(visit)


def settle(visit: Visit) -> None:
    """Waits until the page shows what was typed; on a busy machine it waits for a pause."""
    visit.page.wait_for_selector(f"{SHADED}:not([aria-busy=true])")


def text_of(visit: Visit, selector: str) -> str:
    return str(visit.page.locator(selector).inner_text())


def classes(visit: Visit, selector: str) -> list[str]:
    """The classes of each character of a text."""
    return list(
        visit.page.eval_on_selector_all(f"{selector} span[role=option]", "spans => spans.map(s => s.className)")
    )


def write(visit: Visit, **settings: Any) -> str:
    """Has the page write to the end, and returns what it wrote."""
    for name, value in settings.items():
        visit.page.eval_on_selector(
            f"#r0-try [name={name}]",
            "(field, value) => { field.value = value; field.dispatchEvent(new Event('input', {bubbles: true})); }",
            str(value),
        )
    visit.page.click("#r0-try .primary")
    visit.page.wait_for_selector("#r0-try .stop:disabled")
    whole = visit.page.locator("#r0-try .written").text_content() or ""
    return whole.removeprefix(visit.page.locator("#r0-try .written .prompt").text_content() or "")


def ask_for_much(visit: Visit) -> None:
    """Has it write more than a small network writes in a moment."""
    visit.page.eval_on_selector("#r0-try [name=count]", f"field => {{ field.max = ''; field.value = {MUCH}; }}")


# ----------------------------------------------------------------------------------------------------- first screen


def test_the_first_screen_shows_the_sentence_and_a_shaded_text(visit: Visit, contents: Contents):
    for selector in (".summary", INPUT, SHADED):
        box = visit.page.locator(selector).bounding_box()
        assert box
        assert box["y"] + box["height"] <= LAPTOP["height"], selector
    assert visit.page.input_value(INPUT) == contents.beginning
    assert any(re.search(r"s[1-4]", name) for name in classes(visit, SHADED))


def test_on_a_phone_the_first_screen_shows_them_too(browser: Browser, page: Path):
    with browser.open(page, viewport=PHONE) as visit:
        box = visit.page.locator(SHADED).bounding_box()
        assert box
        assert box["y"] + 40 <= PHONE["height"]


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_screen(browser: Browser, page: Path, width: int):
    with browser.open(page, viewport={"width": width, "height": 800}) as visit:
        visit.page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
        fill(visit, "e" * 300 + "\nriver boat\nboat")
        visit.page.check("#r0-try input[value=unit]")
        write(visit, count=40)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_browser_forbids_what_the_page_does_not_bring(browser: Browser, page: Path):
    context = browser.running.new_context()
    opened = context.new_page()
    opened.goto(page.as_uri())
    did = opened.evaluate(
        """async () => {
            const forbidden = [];
            document.addEventListener("securitypolicyviolation", event => forbidden.push(event.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "window.intruder = 1";
            const style = document.createElement("style");
            style.textContent = "body { color: red }";
            document.body.append(script, style);
            const image = new Image();
            const loaded = new Promise(done => {
                image.onload = () => done(true);
                image.onerror = () => done(false);
            });
            image.src = "http://127.0.0.1:9/x.png";
            const fetched = await fetch("http://127.0.0.1:9/").then(() => true, () => false);
            return [window.intruder, await loaded, fetched, forbidden.sort()];
        }"""
    )
    context.close()
    assert did == [None, False, False, ["connect-src", "img-src", "script-src-elem", "style-src-elem"]]


# ------------------------------------------------------------------------------------------------------- typing


def test_as_one_types_the_text_is_priced_as_python_prices_it(visit: Visit, network: LanguageModel):
    fill(visit, "")
    visit.page.locator(INPUT).press_sequentially("the river boat, Anna!")
    settle(visit)
    (score,) = network.score(["the river boat, Anna!"])
    bits = -score.logprob / math.log(2)
    total = text_of(visit, "#r0-try .total")
    assert f"{bits / len(score.chars):.2f} bits per character" in total.replace("\n", " ")
    assert f"{bits:.1f} bits in all, for {len(score.chars)} characters" in total
    data = json.loads(visit.page.locator("#r0-data").text_content() or "")
    expected = []
    for character in score.chars:
        level = sum(-character.logprob / math.log(2) >= bound for bound in data["shades"])
        expected.append("unknown" if character.unknown else f"s{level}")
    assert [name.split()[0] for name in classes(visit, SHADED)] == expected


def test_a_surprising_character_is_marked_by_more_than_colour(visit: Visit):
    fill(visit, "river zzzqqq river ✗")
    marks = visit.page.eval_on_selector_all(
        f"{SHADED} span", "all => all.map(s => [s.className, getComputedStyle(s).textDecorationLine])"
    )
    lines = {name.split()[0]: line for name, line in marks}
    strong = [name for name in lines if name in ("s2", "s3", "s4", "unknown")]
    assert strong
    assert all(lines[name] == "underline" for name in strong)
    thickness = visit.page.evaluate(
        """() => ["s1", "s2", "s3", "s4"].map(name => {
            const span = document.createElement("span");
            span.className = name;
            document.querySelector("#r0-shaded .text").append(span);
            const style = getComputedStyle(span), size = parseFloat(style.textDecorationThickness);
            return (style.textDecorationStyle === "double" ? 3 : 1) * size;
        })"""
    )
    assert thickness == sorted(set(thickness))  # thicker with each shade


def test_several_lines_are_ranked_by_their_mean(visit: Visit, network: LanguageModel):
    lines = ["zq zq zq zq", "river boat lamp.", "river", "the the"]
    fill(visit, "\n".join([lines[0], "", *lines[1:]]))
    rows = visit.page.locator("#r0-try .ranking tbody tr").all_inner_texts()
    ranked = network.rank(lines, "mean")
    assert [row.split("\t")[-1] for row in rows] == [one.score.text for one in ranked]
    assert [int(row.split("\t")[0]) for row in rows] == [one.rank for one in ranked]
    fill(visit, lines[1])
    assert visit.page.locator("#r0-try .ranking").is_hidden()


def test_what_an_input_method_composes_is_read_when_it_is_done(visit: Visit):
    fill(visit, "river")
    before = text_of(visit, SHADED)
    compose = """([kind, value]) => {
        const field = document.querySelector("#r0-input");
        if (value !== null) field.value = value;
        const event = kind === "input" ? new InputEvent("input", {isComposing: true, bubbles: true})
            : new CompositionEvent(kind, {bubbles: true});
        field.dispatchEvent(event);
    }"""
    visit.page.evaluate(compose, ["compositionstart", None])
    visit.page.evaluate(compose, ["input", "river hua"])
    assert text_of(visit, SHADED) == before
    visit.page.evaluate(compose, ["compositionend", "river 画"])
    assert "river 画" in text_of(visit, SHADED)


def test_characters_are_code_points_and_what_cannot_be_seen_has_a_name(visit: Visit):
    visit.page.eval_on_selector(
        INPUT,
        "(field, value) => { field.value = value; field.dispatchEvent(new Event('input')); }",
        "a😀\u202eb\x00\t.",
    )
    found = visit.page.locator(f"{SHADED} span").all_text_contents()
    assert found[:5] == ["a", "😀", "U+202E", "b", "U+0000"]


def test_the_total_is_read_out_once_the_typing_pauses(visit: Visit):
    fill(visit, "")
    before = visit.page.locator("#r0-try .announce").text_content()
    visit.page.locator(INPUT).press_sequentially("river boat")
    assert visit.page.locator("#r0-try .announce").text_content() == before
    changed = "before => document.querySelector('#r0-try .announce').textContent !== before"
    visit.page.wait_for_function(changed, arg=before)
    total = visit.page.locator("#r0-try .total strong").text_content()
    assert visit.page.locator("#r0-try .announce").text_content() == f"{total} bits per character"


# -------------------------------------------------------------------------------------- alternatives and the cursor


def test_a_mouse_that_points_at_a_character_shows_what_else_was_likely(visit: Visit, network: LanguageModel):
    fill(visit, "river boat")
    visit.page.locator(f"{SHADED} span").nth(3).hover()
    shown = text_of(visit, PANEL)
    (others,) = [network.alternatives("river boat", 5)[3]]
    assert shown.split("\n")[0] == "e"
    for other in others:
        assert {" ": "␣", "</s>": "⏎"}.get(other.char, other.char) in shown
    visit.page.locator("#r0-try-title").hover()
    visit.page.locator(f"{SHADED} span").nth(0).hover()
    assert text_of(visit, PANEL).split("\n")[0] == "r"


def test_arrow_keys_move_a_cursor_whose_character_is_named(visit: Visit):
    fill(visit, "river\nboat lamp")
    visit.page.focus(SHADED)

    def at() -> tuple[int, str]:
        found = visit.page.evaluate(
            """() => {
                const box = document.querySelector("#r0-shaded .text");
                const span = document.getElementById(box.getAttribute("aria-activedescendant"));
                return [Array.from(box.children).indexOf(span), span.getAttribute("aria-label"), span.className];
            }"""
        )
        assert found[2].endswith("at")
        return found[0], found[1]

    visit.page.keyboard.press("ArrowRight")
    assert at()[0] == 0
    visit.page.keyboard.press("ArrowRight")
    place, name = at()
    assert (place, name[:3]) == (1, "i: ")
    assert "Also likely" in name
    visit.page.keyboard.press("ArrowDown")
    assert at()[0] == 7  # below it in the next line
    visit.page.keyboard.press("ArrowUp")
    assert at()[0] == 1
    visit.page.keyboard.press("End")
    assert at()[0] == len("river\nboat lamp\n") - 1
    visit.page.keyboard.press("ArrowRight")
    assert at()[0] == len("river\nboat lamp\n") - 1
    visit.page.keyboard.press("Home")
    assert at()[0] == 0
    assert text_of(visit, PANEL).split("\n")[0] == "r"


def test_a_tap_shows_the_same(browser: Browser, page: Path):
    with browser.open(page, viewport=PHONE, has_touch=True, is_mobile=True) as visit:
        fill(visit, "river boat")
        visit.page.locator(f"{SHADED} span").nth(6).tap()
        assert text_of(visit, PANEL).split("\n")[0] == "b"
        assert "at" in classes(visit, SHADED)[6].split()


def test_everything_can_be_reached_by_the_tab_key(visit: Visit):
    wanted = {"r0-input", "text", "primary", "sample-slider", "places", "surprisal"}
    seen: set[str] = set()
    for _ in range(90):
        visit.page.keyboard.press("Tab")
        seen |= set(
            visit.page.evaluate(
                """() => {
                    const e = document.activeElement;
                    return [e.id, ...e.classList, e.value || "", e.closest(".samples") ? "sample-slider" : ""];
                }"""
            )
        )
    assert wanted <= seen


# ------------------------------------------------------------------------------------------------- a hidden unit


def test_a_unit_lights_up_the_text(visit: Visit):
    fill(visit, "river boat lamp")
    assert visit.page.locator("#r0-try .chooser").is_hidden()
    visit.page.check("#r0-try input[value=unit]")
    seen = set()
    for unit in range(12):
        visit.page.fill("#r0-try .unit", str(unit))
        names = classes(visit, SHADED)
        assert all(re.fullmatch(r"u-?[0-4]", name) for name in names[:-1]), names
        seen.add(tuple(names))
    assert len(seen) > 3  # they differ
    visit.page.locator(f"{SHADED} span").nth(2).hover()
    assert re.search(r"unit 11 of layer 1: -?\d\.\d{3}", text_of(visit, PANEL))
    visit.page.fill("#r0-try .unit", "999")  # there is none: what was shown stays
    assert classes(visit, SHADED) == names
    visit.page.check("#r0-try input[value=surprisal]")
    assert all(name.startswith("s") for name in classes(visit, SHADED))


# ------------------------------------------------------------------------------------------------------ writing on


def test_it_writes_on_from_the_text_the_same_with_the_same_seed(visit: Visit):
    fill(visit, "the river ")
    first = write(visit, count=80, seed=3, temperature=1)
    assert len(first) == 80
    assert text_of(visit, "#r0-try .written .prompt").strip() == "the river"
    assert "80 characters" in text_of(visit, "#r0-try .wrote")
    assert write(visit, seed=3) == first
    assert write(visit, seed=4) != first
    assert write(visit, temperature=0, seed=1) == write(visit, temperature=0, seed=2)
    assert text_of(visit, "#r0-try output >> nth=0") == "0.00"


def test_it_stops_where_it_is_told(visit: Visit):
    fill(visit, "the river ")
    whole = write(visit, count=400, seed=1, temperature=1)
    stop = whole[40:42]
    assert write(visit, stop=stop) == whole[: whole.index(stop) + 2]


def test_the_text_streams_and_can_be_stopped(visit: Visit):
    ask_for_much(visit)
    visit.page.click("#r0-try .primary")
    lengths = []
    for _ in range(3):
        visit.page.wait_for_timeout(60)
        lengths.append(visit.page.evaluate("document.querySelector('#r0-try .written').textContent.length"))
    visit.page.click("#r0-try .stop")
    visit.page.wait_for_selector("#r0-try .stop:disabled")
    assert lengths == sorted(set(lengths))
    told = text_of(visit, "#r0-try .wrote")
    assert "then stopped" in told
    assert 0 < int(told.split()[0]) < MUCH
    assert visit.page.evaluate("document.activeElement.className") == "primary"


def test_a_prompt_that_cannot_be_written_is_refused_in_words(visit: Visit):
    fill(visit, "river ✗")
    visit.page.click("#r0-try .primary")
    assert "✗" in text_of(visit, "#r0-try .wrote")
    assert visit.page.locator("#r0-try .written").is_hidden()


def test_what_was_copied_is_marked(browser: Browser, contents: Contents, tmp_path: Path):
    data = json.loads(contents.network.json)
    size = len(base64.b64decode(data["copied"]["data"]))
    data["copied"]["data"] = base64.b64encode(b"\xff" * size).decode()  # every run of characters is known
    write_report(
        tmp_path / "all.html", [replace(contents, network=replace(contents.network, json=json.dumps(data)))]
    )
    with browser.open(tmp_path / "all.html", viewport=LAPTOP) as visit:
        written = write(visit, count=60)
        assert visit.page.locator("#r0-try .written mark").text_content() == written
        assert "60 are marked" in text_of(visit, "#r0-try .wrote")
    data["copied"] = None
    write_report(
        tmp_path / "none.html", [replace(contents, network=replace(contents.network, json=json.dumps(data)))]
    )
    with browser.open(tmp_path / "none.html", viewport=LAPTOP) as visit:
        write(visit, count=60)
        assert visit.page.locator("#r0-try .written mark").count() == 0
        assert "cannot know" in text_of(visit, "#r0-try .wrote")


def test_where_motion_is_not_wanted_the_text_appears_when_it_is_done(browser: Browser, page: Path):
    with browser.open(page, viewport=LAPTOP, reduced_motion="reduce") as visit:
        ask_for_much(visit)
        visit.page.click("#r0-try .primary")
        visit.page.wait_for_timeout(100)
        prompt = visit.page.locator("#r0-try .written .prompt").text_content()
        assert visit.page.locator("#r0-try .written").text_content() == prompt
        visit.page.click("#r0-try .stop")
        visit.page.wait_for_selector("#r0-try .stop:disabled")
        assert len(visit.page.locator("#r0-try .written").text_content() or "") > len(prompt or "")


# -------------------------------------------------------------------------------------------------- the other parts


def test_the_slider_shows_what_was_written_at_each_evaluation(visit: Visit, contents: Contents):
    assert contents.learning
    slider = "#r0-learning input[type=range]"
    assert text_of(visit, "#r0-learning .sample").strip() == contents.learning.samples[-1][1].strip()
    visit.page.focus(slider)
    visit.page.keyboard.press("Home")
    assert text_of(visit, "#r0-learning .sample").strip() == contents.learning.samples[0][1].strip()
    assert "step 10," in text_of(visit, "#r0-learning .when")
    assert "step 10," in (visit.page.get_attribute(slider, "aria-valuetext") or "")
    visit.page.keyboard.press("ArrowRight")
    assert "step 20," in text_of(visit, "#r0-learning .when")


def test_held_out_text_is_shaded_and_explained(visit: Visit, contents: Contents):
    assert contents.held_out
    place = contents.held_out.excerpt[4]
    visit.page.focus("#r0-excerpt .text")
    for _ in range(5):
        visit.page.keyboard.press("ArrowRight")
    panel = text_of(visit, "#r0-excerpt .panel")
    assert f"{-place.log_prob / math.log(2):.2f} bits" in panel
    names = classes(visit, "#r0-excerpt .text")
    assert len(names) == len(contents.held_out.excerpt)
    assert {name.split()[0] for name in names} > {"s0", "s1"}


def test_who_knew_it_says_what_each_expert_gave_and_where_the_context_stands(visit: Visit, contents: Contents):
    assert contents.held_out
    places = contents.held_out.excerpt
    index = next(
        n for n, place in enumerate(places) if place.match and place.match.length > 5 and place.decided == 1
    )
    match = places[index].match
    assert match
    visit.page.locator("#r0-who .text span[role=option]").nth(index).click()
    panel = text_of(visit, "#r0-who .panel")
    assert "network" in panel
    assert "n-grams" in panel
    assert f"longest context in the training text: {match.length}" in panel
    assert visit.page.locator("#r0-who .panel mark").text_content() == match.before[-match.length :].replace(
        "\n", "⏎"
    )
    assert classes(visit, "#r0-who .text")[index].startswith("e1")
    for name, place in zip(classes(visit, "#r0-who .text"), places, strict=True):
        assert re.findall(r"e\d", name) == ([] if place.decided is None else [f"e{place.decided}"])


def test_connectivity_follows_keys_and_mouse(visit: Visit, contents: Contents):
    places, context = "#r0-gradients .places", "#r0-gradients .context"
    first = text_of(visit, context)
    visit.page.focus(places)
    visit.page.keyboard.press("ArrowDown")
    second = text_of(visit, context)
    assert second != first
    assert second.replace("⏎", "").replace("\n", "").startswith(contents.connected[1].before[:10].replace("\n", ""))
    visit.page.locator(f"{places} [role=option]").nth(3).hover()
    assert text_of(visit, context) not in (first, second)
    visit.page.locator("#r0-gradients-title").hover()
    assert text_of(visit, context) == second
    moves = contents.connected[1].moves
    darkest = moves.index(max(moves))
    assert visit.page.locator(f"{context} span").nth(darkest).get_attribute("class") == "k4"


def test_a_unit_that_was_found_says_its_activation(visit: Visit, contents: Contents):
    assert contents.units
    values = contents.units.findings[0].excerpt[1]
    visit.page.locator("#r0-units article >> nth=0").locator(".text span").nth(2).hover()
    assert f"{values[2]:.2f}" in text_of(visit, "#r0-units article >> nth=0")


def test_the_chooser_of_runs_works_by_keys_and_shows_one_at_a_time(
    browser: Browser, contents: Contents, tmp_path: Path
):
    write_report(tmp_path / "two.html", [contents, replace(contents, name="second", beginning="lamp")])
    with browser.open(tmp_path / "two.html", viewport=LAPTOP) as visit:
        assert visit.page.locator("#r1").is_hidden()
        visit.page.focus("#r0-tab")
        visit.page.keyboard.press("ArrowRight")
        assert visit.page.locator("#r0").is_hidden()
        assert visit.page.evaluate("document.activeElement.id") == "r1-tab"
        assert visit.page.get_attribute("#r1-tab", "aria-selected") == "true"
        assert "lamp" in text_of(visit, "#r1-shaded .text")
        visit.page.keyboard.press("ArrowRight")
        assert visit.page.locator("#r1").is_hidden()
        visit.page.click("#r1-tab")
        visit.page.fill("#r1-input", "boat")
        assert "boat" in text_of(visit, "#r1-shaded .text")


def test_a_unit_that_was_found_lights_the_readers_own_text(visit: Visit, contents: Contents):
    assert contents.units
    finding = contents.units.findings[0]
    fill(visit, finding.excerpt[0].split("\n")[1])
    visit.page.locator("#r0-units article[data-finding='0'] button").click()
    assert visit.page.input_value("#r0-try .unit") == str(finding.unit)
    assert visit.page.input_value("#r0-try .state") == finding.state
    assert visit.page.is_checked("#r0-try input[value=unit]")
    assert all(name.startswith("u") for name in classes(visit, SHADED)[:-1])
    assert visit.page.evaluate("document.activeElement.id") == "r0-input"


def test_a_memory_cell_is_shown_as_python_computes_it(visit: Visit, network: LanguageModel):
    fill(visit, "river")
    visit.page.check("#r0-try input[value=unit]")
    visit.page.fill("#r0-try .unit", "7")
    visit.page.select_option("#r0-try .state", "c")
    expert, state = network.mixture.network, network.mixture.network.initial_state(1)
    ids = [network.vocabulary.boundary_id, *network.vocabulary.encode_sentence("river")]
    for place, symbol in enumerate(ids):
        _, state = expert.advance(np.array([[symbol]], np.int32), state)
        if place:
            visit.page.locator(f"{SHADED} span").nth(place - 1).hover()
            shown = float(text_of(visit, PANEL).split(": ")[1].split()[0])
            assert shown == pytest.approx(float(state[0][1][0, 7]), abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("corpus", "settings"),
    [
        ({"level": "byte"}, {"cell": "gru", "num_layers": 2}),
        ({"framing": "lines", "normalization": "nfkc", "lowercase": True}, {"cell": "gru-before", "ngram": 3}),
        ({"framing": "stream"}, {"cell": "rnn", "embedding_size": 5, "output_rank": 4}),
    ],
    ids=["bytes", "lines", "without-newlines"],
)
def test_the_page_of_any_kind_of_run_works(
    corpus: dict[str, Any], settings: dict[str, Any], browser: Browser, tmp_path: Path
):
    text = make_text(150) + "Ünïcödé 画画 😀 ﬁ\n" * 20
    if settings["cell"] == "rnn":
        text = text.replace("\n", " ")
    (tmp_path / "t.txt").write_text(text, encoding="utf-8")
    run = train(tmp_path / "t.txt", tmp_path / "run", steps=20, corpus=corpus, **settings)
    network = with_dequantized_weights(charlm.load(run, device="cpu"))
    write_report(tmp_path / "page.html", [gather(charlm.load(run, device="cpu"))])
    with browser.open(tmp_path / "page.html", viewport=PHONE) as visit:
        fill(visit, "The River 画😀 é")
        (score,) = network.score(["The River 画😀 é"])
        assert f"{-score.logprob / math.log(2):.1f} bits in all" in text_of(visit, "#r0-try .total")
        for part in ("#r0-shaded", "#r0-excerpt", "#r0-who"):
            visit.page.focus(f"{part} .text")
            visit.page.keyboard.press("End")
            assert "bits" in text_of(visit, f"{part} .panel")
        visit.page.check("#r0-try input[value=unit]")
        assert any(re.fullmatch(r"u-?[1-4]", name) for name in classes(visit, SHADED))
        fill(visit, "the river")
        assert write(visit, count=30)


# ----------------------------------------------------------------------------------------------- light, dark, paper


def test_dark_and_light_follow_the_reader(browser: Browser, page: Path):
    grounds = {}
    for scheme in ("light", "dark"):
        with browser.open(page, color_scheme=scheme) as visit:
            grounds[scheme] = visit.page.evaluate(
                "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
            )
    numbers = {
        scheme: [sum(map(int, re.findall(r"\d+", color))) for color in pair] for scheme, pair in grounds.items()
    }
    assert numbers["light"][0] > 700 > 200 > numbers["light"][1]
    assert numbers["dark"][0] < 100 < 600 < numbers["dark"][1]


def test_on_paper_controls_are_gone_and_the_marks_stay(visit: Visit):
    visit.page.emulate_media(media="print")
    for selector in (
        INPUT,
        "#r0-try .write",
        "#r0-try .shade",
        "#r0 .contents",
        "#r0-shaded .panel",
        "#r0-gradients .places",
    ):
        assert visit.page.locator(selector).is_hidden(), selector
    assert visit.page.locator(SHADED).is_visible()
    height = visit.page.evaluate(
        "(box => [box.scrollHeight, box.clientHeight])(document.querySelector('#r0-excerpt .text'))"
    )
    assert height[0] <= height[1] + 2  # nothing of it is cut
    marked = visit.page.eval_on_selector(
        "#r0-excerpt .text .s3, #r0-excerpt .text .s2", "s => getComputedStyle(s).textDecorationLine"
    )
    assert marked == "underline"
    assert len(visit.page.pdf(format="A4")) > 10_000


# ---------------------------------------------------------------------------------------------------------- hostile


def test_hostile_texts_do_nothing_but_stand_there(browser: Browser, contents: Contents, tmp_path: Path):
    write_report(tmp_path / "hostile.html", [make_hostile(contents), replace(contents, name=HOSTILE)])
    with browser.open(tmp_path / "hostile.html", viewport=LAPTOP) as visit:
        dialogs: list[str] = []
        visit.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        visit.page.click("#r1-tab")
        visit.page.click("#r0-tab")
        assert "<img src=x onerror=alert(2)>" in text_of(visit, "#r0-learning .sample")
        fill(visit, HOSTILE.replace("\x00", "").replace("\ud800", ""))
        assert "</script>" in text_of(visit, SHADED)
        visit.page.click("#r0-try .primary")
        visit.page.wait_for_timeout(100)
        for tag in ("img", "main script", "b"):
            assert visit.page.locator(tag).count() == 0
        assert dialogs == []


def test_a_hostile_vocabulary_can_be_scored_and_written(browser: Browser, tmp_path: Path):
    nasty = "</script><!--]]>\u202e&<img src=x onerror=alert(1)>"
    (tmp_path / "t.txt").write_text("".join(f"{nasty}{n}\n" for n in range(60)), encoding="utf-8")
    run = train(tmp_path / "t.txt", tmp_path / "run", steps=20)
    write_report(tmp_path / "page.html", [gather(charlm.load(run, device="cpu"))])
    with browser.open(tmp_path / "page.html", viewport=LAPTOP) as visit:
        fill(visit, "</script>\u202e<")
        assert "</script>U+202E<" in text_of(visit, SHADED)
        assert len(write(visit, count=50)) >= 50
        assert visit.page.locator("img").count() == 0
