"""The network in JavaScript, run in a browser, is the network in Python on the same dequantised weights."""

import base64
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import charlm
import charlm.report
from browser import Browser, Visit
from charlm.config import SamplingConfig
from charlm.experts.mixture import Mixture
from charlm.experts.network import NetworkExpert
from charlm.experts.torch_network import network_expert
from charlm.language_model import LanguageModel
from charlm.model.inference import InferenceNetwork
from charlm.report.network_data import NetworkData, pack_network, with_dequantized_weights
from charlm.sampling import choose
from charlm.text.corpus import Split
from charlm.text.vocabulary import Vocabulary, normalize_pieces, to_bytes
from models import CELLS, make_language_model, make_network, randomize

MODEL_JS = Path(charlm.report.__file__).parent / "assets" / "model.js"
TEXT = "the boat sees the river.\nÅ heron 😀 has “bread”, <b>&amp;\n江上船來去\n\tit’s\n" * 20
LINES = [
    "the boat sees the river.",
    "the boat",
    "the boat sank",  # goes on from the one before
    "",
    "a 😀😀 heron",
    "Ünknown: 𝄞, Z, ж and 𠮷!",
    "江上船去",
    "one\ntwo\n",
    "\n",
    "ﬁ Å Å İ ΣΑΣ ½",  # changed by nfc, nfkc and lower case
    "\udce4 \ud800",  # what a byte that is not UTF-8 becomes, and half a character
]
TOLERANCE = 1e-4  # nats a character


class PageModel:
    """A model in an open page."""

    def __init__(self, visit: Visit, data: NetworkData) -> None:
        self._page = visit.page
        self._page.evaluate("json => { model = charlm.load(JSON.parse(json)); }", data.json)

    def run(self, function: str, argument: Any = None) -> Any:
        """Calls a function of the page; text passes in both directions as JSON, which keeps lone surrogates."""
        code = f"json => JSON.stringify(({function})(JSON.parse(json)))"
        return json.loads(self._page.evaluate(code, json.dumps(argument)))

    def score(self, lines: Sequence[str], alternatives: int = 5) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = self.run(
            f"lines => lines.map(line => model.score(line, {alternatives}))", lines
        )
        return result

    def write(self, count: int = 1, **settings: Any) -> list[str]:
        """Texts of the seeds from 0 on, unless one is given."""
        function = """([count, settings]) => Array.from({length: count}, (_, seed) =>
            Array.from(model.write({seed, ...settings})).join(""))"""
        texts: list[str] = self.run(function, [count, settings])
        return texts


@pytest.fixture(scope="module")
def visit(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    path = tmp_path_factory.mktemp("page") / "page.html"
    code = MODEL_JS.read_text(encoding="utf-8")
    path.write_text(f"<!DOCTYPE html><meta charset=utf-8><script>{code}\nlet model;</script>", encoding="utf-8")
    with browser.open(path) as visit:
        yield visit


def make_model(vocabulary: Vocabulary, seed: int = 0, std: float = 0.5, **settings: Any) -> LanguageModel:
    settings = {"hidden_size": 13, **settings}
    network = randomize(make_network(len(vocabulary), **settings), seed, std)
    return make_language_model(Mixture(network_expert(network)), vocabulary)


def make_vocabulary(text: str = TEXT, **settings: Any) -> Vocabulary:
    given = {key: settings[key] for key in ("normalization", "lowercase") if key in settings}
    return Vocabulary.build("".join(normalize_pieces([text], **given)), **settings)


def assert_same_prices(page: PageModel, lm: LanguageModel, lines: Sequence[str], **packing: Any) -> None:
    expected = with_dequantized_weights(lm, **packing).score(lines)
    for score, found in zip(expected, page.score(lines), strict=True):
        chars = found["characters"]
        assert [(c["text"], c["unknown"]) for c in chars] == [(c.char, c.unknown) for c in score.chars], score.text
        assert [c["logProb"] for c in chars] == pytest.approx([c.logprob for c in score.chars], abs=TOLERANCE)
        assert found["total"] == pytest.approx(score.logprob, abs=TOLERANCE * max(1, score.n))
        assert found["bitsPerCharacter"] == pytest.approx(score.bits_per_character, abs=2 * TOLERANCE)


# ------------------------------------------------------------------------------------------------------- the prices


@pytest.mark.parametrize("float16_bytes", [0, 1_000_000], ids=["int8", "float16"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_layers": 3, "hidden_size": 8},
        {"embedding_size": 5, "bias": False},
        {"output_rank": 3, "num_layers": 2},
        {"embedding_size": 4, "output_rank": 6, "hidden_size": 20},
    ],
    ids=lambda settings: "-".join(settings) or "plain",
)
@pytest.mark.parametrize("cell", CELLS)
def test_the_page_prices_every_character_as_python_does(
    visit: Visit, cell: str, settings: dict[str, Any], float16_bytes: int
):
    lm = make_model(make_vocabulary(), cell=cell, **settings)
    data = pack_network(lm, None, float16_bytes=float16_bytes)
    assert data.format == ("float16" if float16_bytes else "int8")
    assert_same_prices(PageModel(visit, data), lm, LINES, float16_bytes=float16_bytes)


@pytest.mark.parametrize("level", ["character", "byte"])
@pytest.mark.parametrize("framing", ["stream", "lines"])
@pytest.mark.parametrize("normalization", ["none", "nfc", "nfkc"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_the_page_reads_text_as_training_did(
    visit: Visit, level: str, framing: str, normalization: str, lowercase: bool
):
    vocabulary = make_vocabulary(level=level, framing=framing, normalization=normalization, lowercase=lowercase)
    lm = make_model(vocabulary, cell="gru", hidden_size=8)
    page = PageModel(visit, pack_network(lm, None))
    assert_same_prices(page, lm, LINES)
    assert page.run("lines => lines.map(line => model.normalize(line))", LINES) == [
        *map(vocabulary.normalize, LINES)
    ]
    encoded = page.run("lines => lines.map(line => model.encode(line).ids.flat())", LINES)
    assert encoded == [vocabulary.encode_sentence(vocabulary.normalize(line)).tolist() for line in LINES]


def test_ends_of_lines_are_read_as_in_files(visit: Visit):
    page = PageModel(visit, pack_network(make_model(make_vocabulary()), None))
    assert page.run("text => model.normalize(text)", "a\r\nb\rc\n\r\n") == "a\nb\nc\n\n"


def test_a_text_without_newlines_has_no_price_for_its_end(visit: Visit):
    lm = make_model(make_vocabulary("one two three " * 9))
    page = PageModel(visit, pack_network(lm, None))
    assert_same_prices(page, lm, ["one two", "three", ""])
    assert page.score([""])[0] == {"characters": [], "total": 0, "bitsPerCharacter": 0}


@pytest.mark.parametrize("level", ["character", "byte"])
def test_alternatives_are_those_of_python(visit: Visit, level: str):
    lm = make_model(make_vocabulary(level=level))
    python = with_dequantized_weights(lm)
    page = PageModel(visit, pack_network(lm, None))
    for k in (1, 5, 20):
        for line, found in zip(LINES, page.score(LINES, k), strict=True):
            expected = python.alternatives(line, k)
            assert len(expected) == len(found["characters"])
            for theirs, ours in zip(expected, found["characters"], strict=True):
                log_probs = [a["logProb"] for a in ours["alternatives"]]
                assert log_probs == pytest.approx([a.logprob for a in theirs], abs=TOLERANCE)
                names = [shown(a.char) for a in theirs]
                assert [a["text"] for a in ours["alternatives"]] == names
                assert [a["isEnd"] for a in ours["alternatives"]] == [name == "</s>" for name in names]


def shown(char: str) -> str:
    """What the page calls a symbol: a byte that is no character by its number."""
    return f"\\x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else char


def test_symbols_are_the_vocabulary(visit: Visit):
    vocabulary = make_vocabulary(framing="lines")
    page = PageModel(visit, pack_network(make_model(vocabulary, cell="rnn", num_layers=3), None))
    found = page.run("_ => [model.symbols, model.boundary, model.unknown, model.framing, model.level]")
    assert found == [[*vocabulary.symbols], vocabulary.boundary_id, 0, "lines", "character"]
    assert page.run("_ => [model.cell, model.layers, model.hiddenSize]") == ["rnn", 3, 13]


@pytest.mark.slow
def test_a_trained_model_prices_a_thousand_lines_as_python_does(visit: Visit, tmp_path: Path):
    config = {
        "corpus": {"path": "corpus:english"},
        "model": {"cell": "lstm", "hidden_size": 64, "num_layers": 2, "embedding_size": 24},
        "training": {"budget": "300 steps", "device": "cpu"},
        "sampling": {"length": 1},
    }
    lm = charlm.train(config, out=tmp_path / "run")
    corpus = lm.corpus()
    rng = np.random.default_rng(0)
    ids = np.concatenate((corpus.validation.ids, corpus.train.ids[:100_000]))  # the one has 369 lines
    lines = lm.vocabulary.decode(ids.tolist()).splitlines()[:900]
    lines += ["".join(rng.permutation([*line, "ж", "😀"])) for line in lines[:100]]
    assert len(lines) == 1000
    for float16_bytes in (0, 1_000_000):
        page = PageModel(visit, pack_network(lm, corpus.train, float16_bytes=float16_bytes))
        assert_same_prices(page, lm, lines, float16_bytes=float16_bytes)


# ---------------------------------------------------------------------------------------------------- prefix states


@pytest.mark.parametrize("level", ["character", "byte"])
def test_what_was_read_before_changes_no_price(visit: Visit, level: str):
    page = PageModel(visit, pack_network(make_model(make_vocabulary(level=level), cell="lstm"), None))
    typed = "the boat 😀 sees the 江上 river."
    texts = [typed[:n] for n in range(len(typed) + 1)]  # typed, with another line ranked beside it
    texts += ["the heron", typed[:9] + typed[10:], typed, typed, "x" + typed, "", typed[:5]]  # changed, deleted
    one_by_one = page.score(texts)
    function = "texts => texts.map(text => { model._readings = []; return model.score(text); })"
    assert one_by_one == page.run(function, texts)


def test_typing_at_the_end_costs_one_step(visit: Visit):
    page = PageModel(visit, pack_network(make_model(make_vocabulary()), None))
    function = """text => {
        model.score(text); model.score("the heron");
        let steps = 0;
        const read = model.read;
        model.read = (...given) => { steps++; return read.apply(model, given); };
        model.score(text + "x"); model.score(text.slice(0, -1)); model.activations(text, 1, 0);
        return [steps, model._readings.map(reading => reading.ids.length)];
    }"""
    assert page.run(function, "the boat sees the river") == [1, [23, 22, 24, 9]]


def test_of_what_is_typed_only_the_last_state_of_the_text_is_kept(visit: Visit):
    page = PageModel(visit, pack_network(make_model(make_vocabulary()), None))
    function = """text => {
        for (let n = 1; n <= text.length; n++) model.score(text.slice(0, n));
        return model._readings.map(reading => reading.states.length);
    }"""
    assert page.run(function, "the boat") == [9]


def test_old_readings_are_forgotten(visit: Visit):
    data = pack_network(make_model(make_vocabulary(), hidden_size=16, cell="lstm"), None)
    function = """([json, text]) => {
        const model = charlm.load(JSON.parse(json), 100000);
        for (let k = 0; k < 40; k++) model.score(text.slice(k));
        const states = model._readings.reduce((sum, reading) => sum + reading.states.length, 0);
        return [states * 4 * 16 * 2, model._readings.length];
    }"""
    size, kept = PageModel(visit, data).run(function, [data.json, "the boat sees the river " * 10])
    assert size <= 100_000
    assert 1 < kept < 40


def test_a_state_is_read_from_step_by_step(visit: Visit):
    lm = make_model(make_vocabulary(), num_layers=2)
    page = PageModel(visit, pack_network(lm, None))
    function = """text => {
        const state = model.begin(), result = [];
        for (const ids of model.encode(text).ids) {
            const copy = model.copy(state);
            model.read(copy, 3);
            result.push(Array.from(model.logProbs(state))[ids[0]]);
            model.read(state, ids[0]);
        }
        return [result, state.hidden.map(s => s.length)];
    }"""
    log_probs, sizes = page.run(function, "the boat")
    expected = with_dequantized_weights(lm).score(["the boat"], eos=False)[0]
    assert log_probs == pytest.approx([char.logprob for char in expected.chars], abs=TOLERANCE)
    assert sizes == [13, 13]


@pytest.mark.parametrize("level", ["character", "byte"])
def test_activations_are_the_states_after_each_character(visit: Visit, level: str):
    lm = make_model(make_vocabulary(level=level), num_layers=2)
    page, text = PageModel(visit, pack_network(lm, None)), "a 😀 heron"
    vocabulary, network = lm.vocabulary, with_dequantized_weights(lm).mixture.network
    ids = np.append([vocabulary.boundary_id], vocabulary.encode(text))
    sizes = [len(to_bytes(char)) if level == "byte" else 1 for char in text]
    ends = np.cumsum(sizes)
    for layer, unit in ((1, 0), (2, 12), (1, 7)):
        expected = []
        for end in ends:
            _, state = network.advance(ids[: end + 1, None], network.initial_state(1))
            expected.append(float(state[layer - 1][0][0, unit]))
        found = page.run(f"text => Array.from(model.activations(text, {layer}, {unit}))", text)
        assert found == pytest.approx(expected, abs=1e-5)
    for layer, unit in ((0, 0), (3, 0), (1, 13), (1, -1)):
        call = f"model.activations(text, {layer}, {unit})"
        assert (
            page.run(f"text => {{ try {{ {call}; }} catch (error) {{ return error.name; }} }}", text)
            == "RangeError"
        )


# ---------------------------------------------------------------------------------------------------------- writing


def test_the_same_seed_writes_the_same_text(visit: Visit):
    page = PageModel(visit, pack_network(make_model(make_vocabulary(), std=0.2), None))
    first = page.write(20, prompt="the ", length=30)
    assert page.write(20, prompt="the ", length=30) == first
    assert len(set(first)) == 20
    assert page.write(prompt="the ", length=30, seed=19) == [first[19]]
    assert (
        len({*page.write(seed=2**32, length=30), *page.write(seed=2**53 - 1, length=30), *page.write(length=30)})
        == 3
    )
    assert {len(text) for text in first} == {30}


@pytest.mark.parametrize(
    "rule",
    [{}, {"temperature": 0.5}, {"temperature": 2.0}, {"topP": 0.6}, {"temperature": 0.8, "topP": 0.9}],
    ids=str,
)
def test_the_page_draws_as_often_as_the_probabilities_say(visit: Visit, rule: dict[str, float]):
    draws = 4000
    lm = make_model(make_vocabulary("abcdefgh\n" * 9), cell="gru", std=0.4)
    python = with_dequantized_weights(lm).mixture
    vocabulary = lm.vocabulary
    texts = PageModel(visit, pack_network(lm, None)).write(draws, prompt="ab", length=2, **rule)

    def compare(context: str, drawn: list[str]) -> None:
        ids = np.append([vocabulary.boundary_id], vocabulary.encode(context))
        readings, _ = python.advance(ids[:, None], python.initial_state(1))
        logits = python.logits([reading[-1] for reading in readings])
        logits[:, 0] = -np.inf
        settings = SamplingConfig(temperature=rule.get("temperature", 1), top_p=rule.get("topP"))
        even = (np.arange(20_000) + 0.5) / 20_000  # all there is between 0 and 1: the rule's own frequencies
        chosen = choose(settings, logits.repeat(len(even), 0), even)
        for symbol, p in enumerate(np.bincount(chosen, minlength=len(vocabulary)) / len(even)):
            frequency = drawn.count(vocabulary.symbols[symbol]) / len(drawn)
            assert abs(frequency - p) <= 4.5 * np.sqrt(p * (1 - p) / len(drawn)) + 1e-4, vocabulary.symbols[symbol]

    compare("ab", [text[0] for text in texts])
    likeliest = max(set(vocabulary.characters), key=lambda char: sum(text[0] == char for text in texts))
    compare("ab" + likeliest, [text[1] for text in texts if text[0] == likeliest])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("framing", ["stream", "lines"])
def test_at_temperature_zero_the_page_writes_what_python_writes(visit: Visit, cell: str, framing: str):
    lm = make_model(make_vocabulary(framing=framing), cell=cell, num_layers=2, std=0.3)
    page = PageModel(visit, pack_network(lm, None))
    for prompt in ("", "the ", "a 😀"):
        (expected,) = with_dequantized_weights(lm).sample(prompt=prompt, length=80, temperature=0)
        assert prompt + page.write(prompt=prompt, length=80, temperature=0)[0] == expected


def test_at_byte_level_the_page_writes_whole_characters(visit: Visit):
    lm = make_model(make_vocabulary(level="byte"), cell="gru", std=1)
    page = PageModel(visit, pack_network(lm, None))
    for prompt in ("the ", "a 😀", "江"):
        (expected,) = with_dequantized_weights(lm).sample(prompt=prompt, length=60, temperature=0)
        assert prompt + page.write(prompt=prompt, length=60, temperature=0)[0] == expected
    for text in page.write(30, length=40, temperature=1.5):
        assert len(text) == 40  # bytes that make no character count as one each


def test_bytes_become_characters_as_in_python(visit: Visit):
    vocabulary = make_vocabulary(level="byte")
    page = PageModel(visit, pack_network(make_model(vocabulary), None))
    function = """bytes => {
        let n = 0;
        model.logProbs = () => {
            const next = bytes[n++];
            return new Float32Array(256).map((_, id) => id === next);
        };
        return Array.from(model.write({length: bytes.length, temperature: 0, stop: "!"})).join("");
    }"""
    for text in ("\ufeffa\ufeff😀江é", "\udce4a\udcf0\udc9fb\udcc3\udcc3é\udc80"):
        ids = [*to_bytes(text + "!")]
        assert page.run(function, ids) == vocabulary.decode(ids)


def random_numbers(seed: int) -> Iterator[float]:
    """The page's own, written down once more: xoshiro128**, seeded by the finaliser of MurmurHash3."""

    def mix(h: int) -> int:
        h = (h ^ h >> 16) * 0x85EBCA6B & 0xFFFFFFFF
        h = (h ^ h >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
        return h ^ h >> 16

    def rotated(x: int, k: int) -> int:
        return (x << k | x >> 32 - k) & 0xFFFFFFFF

    low, high = seed & 0xFFFFFFFF, seed >> 32
    s = [mix(low ^ k * 0x9E3779B9 & 0xFFFFFFFF) ^ mix(high + k) for k in range(1, 5)]

    def draw() -> int:
        result, t = rotated(s[1] * 5 & 0xFFFFFFFF, 7) * 9 & 0xFFFFFFFF, s[1] << 9 & 0xFFFFFFFF
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotated(s[3], 11)
        return result

    while True:
        yield ((draw() >> 5) * 2**26 + (draw() >> 6)) / 2**53


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32, 2**53 - 1])
def test_with_the_same_random_numbers_python_writes_the_same(visit: Visit, seed: int):
    lm = make_model(make_vocabulary(), cell="gru-before", std=0.3)
    mixture, rule = with_dequantized_weights(lm).mixture, SamplingConfig(temperature=0.9, top_p=0.95)
    symbol, step, text = lm.vocabulary.boundary_id, mixture.make_step(mixture.initial_state(1)), ""
    for uniform in islice(random_numbers(seed), 60):
        logits = step(np.array([symbol]))
        logits[:, 0] = -np.inf
        symbol = int(choose(rule, logits, np.array([uniform]))[0])
        text += lm.vocabulary.symbols[symbol]
    page = PageModel(visit, pack_network(lm, None))
    assert page.write(length=60, temperature=0.9, topP=0.95, seed=seed) == [text]


def test_the_unknown_symbol_is_never_written_and_no_line_begins_with_its_end(visit: Visit):
    vocabulary = make_vocabulary("ab\n" * 9, framing="lines")
    network = randomize(make_network(len(vocabulary), hidden_size=4), std=0.1)
    network.output.bias.data[[0, vocabulary.boundary_id]] = 9  # likelier than anything else
    lm = make_language_model(Mixture(network_expert(network)), vocabulary)
    texts = PageModel(visit, pack_network(lm, None)).write(200, length=50)
    assert {len(text) for text in texts} == {1}  # then the line ends
    assert set(texts) == {"a", "b"}
    assert PageModel(visit, pack_network(lm, None)).write(prompt="a", length=50, temperature=0) == [""]


def test_a_line_ends_and_a_stream_goes_on(visit: Visit):
    for framing, lengths in (("lines", range(1, 40)), ("stream", [40])):
        lm = make_model(make_vocabulary("ab\n" * 9, framing=framing), std=0.1)
        texts = PageModel(visit, pack_network(lm, None)).write(50, length=40)
        assert {*map(len, texts)} <= {*lengths}
        assert any("\n" in text for text in texts) == (framing == "stream")


def test_writing_ends_with_the_stop_text(visit: Visit):
    lm = make_model(make_vocabulary("abcÅ\n" * 9, normalization="nfc"), std=0.1)
    page = PageModel(visit, pack_network(lm, None))
    plain, stopped = page.write(50, length=60), page.write(50, length=60, stop="bA\u030a")  # Å in two
    assert any("bÅ" in text for text in plain)
    assert stopped == [text[: text.find("bÅ") + 2] if "bÅ" in text else text for text in plain]


def test_a_prompt_that_the_model_cannot_have_written_is_refused(visit: Visit):
    page = PageModel(visit, pack_network(make_model(make_vocabulary(framing="lines")), None))
    errors = page.run(
        "texts => texts.map(text => model.writeError(text))", ["the ", "", "a\nb", "жжZ boat", "a\r\nb"]
    )
    assert errors[:2] == [None, None]
    assert "more than one line" in errors[2]
    assert "never seen: ж Z;" in errors[3]
    assert "more than one line" in errors[4]
    refused = (
        "given => { try { Array.from(model.write(given)); } catch (error) { return [error.name, error.message]; } }"
    )
    assert page.run(refused, {"prompt": "жжZ boat"}) == ["RangeError", errors[3]]
    assert page.run(refused, {"stop": "ж"})[1].startswith("the stop text has")
    page = PageModel(visit, pack_network(make_model(make_vocabulary()), None))
    assert page.run("text => model.writeError(text)", "a\r\nb") is None


# ------------------------------------------------------------------------------------------------------ copied text


@pytest.mark.parametrize(
    ("level", "framing", "kilobytes", "run"),
    [
        ("character", "stream", 512, 20),
        ("character", "lines", 80, 18),
        ("byte", "lines", 512, 20),
        ("byte", "stream", 42, 16),
    ],
)
def test_copied_marks_what_stands_in_the_training_text_and_hardly_anything_else(
    visit: Visit, level: str, framing: str, kilobytes: int, run: int
):
    rng = np.random.default_rng(0)
    words = ["boat", "river", "😀", "江上", "the", "a", "heron", "Åland", "x"]

    def make_text(lines: int) -> str:
        return "".join(" ".join(rng.choice(words, 12)) + ".\n" for _ in range(lines))

    training = make_text(2000)
    vocabulary = make_vocabulary(training, level=level, framing=framing)
    lm = make_model(vocabulary, hidden_size=4)
    data = pack_network(lm, Split.of(training, vocabulary), filter_bytes=kilobytes << 10)
    assert len(base64.b64decode(json.loads(data.json)["copied"]["data"])) <= kilobytes << 10
    pieces = []
    for length in range(10, 80):
        start = int(rng.integers(len(training) - length))
        pieces += [training[start : start + length], "".join(rng.permutation([*make_text(1)[:-1]]))]
    text = "".join(pieces)

    page = PageModel(visit, data)
    found = page.run("text => Array.from(model.copied(text))", text)

    assert page.run("_ => model.copiedRun") == run
    assert 0 < page.run("_ => model.falseAlarms") < 5e-4
    assert len(found) == len(text)
    long, short = (copied_runs(text, training, length) for length in (20, run))
    assert sum(long) > 2000
    wrong = sum(mark > at for mark, at in zip(found, short, strict=True))
    assert wrong <= 0.01 * len(text)  # false alarms
    edges = [not all(long[max(0, n + run - 20) : n + 21 - run]) for n in range(len(long))]
    assert all(mark or edge or not at for mark, at, edge in zip(found, long, edges, strict=True))


def copied_runs(text: str, training: str, length: int) -> list[bool]:
    """For each character whether it is inside a run of so many that stands in the training text."""
    marks = np.zeros(len(text), np.bool_)
    for n in range(len(text) - length + 1):
        if text[n : n + length] in training:
            marks[n : n + length] = True
    return marks.tolist()


def test_a_run_that_crosses_two_parts_of_a_stream_stands_nowhere(visit: Visit):
    vocabulary = make_vocabulary("abcdefghijklmnopqrstuvwxyz\n")
    ids = vocabulary.encode("abcdefghijklmnopqrst" + "uvwxyzabcdefghijklmn")
    lm, runs = make_model(vocabulary), ["abcdefghijklmnopqrst", "klmnopqrstuvwxyzabcd", "uvwxyzabcdefghijklmn"]
    for parts, expected in (((0,), [1, 1, 1]), ((0, 20), [1, 0, 1])):
        page = PageModel(visit, pack_network(lm, Split(ids, 40, 40, parts)))
        assert page.run("runs => runs.map(run => Math.max(...model.copied(run)))", runs) == expected


def test_without_a_training_text_or_with_one_that_is_too_long_the_page_cannot_know(visit: Visit):
    lm = make_model(make_vocabulary())
    training = Split(np.random.default_rng(0).integers(1, len(lm.vocabulary), 5000), 5000, 5000)
    for data in (pack_network(lm, None), pack_network(lm, training, filter_bytes=1990)):  # 1,000 runs, 2 bytes each
        page = PageModel(visit, data)
        assert page.run("text => [model.copied(text), model.copiedRun]", "the boat") == [None, None]
    page = PageModel(visit, pack_network(lm, training, filter_bytes=2000))
    assert page.run("_ => model.copiedRun") == 16
    page = PageModel(visit, pack_network(lm, Split.of("short", lm.vocabulary)))
    assert page.run("text => Array.from(model.copied(text))", "short and longer than that") == [0] * 26


# ---------------------------------------------------------------------------------------------------- hostile texts


def test_a_hostile_vocabulary_survives_a_page(browser: Browser, tmp_path: Path):
    hostile = "</script><script>alert('x')</script><!--]]>&lt;\u2028\u2029\"`${\\u0041}\0\x7f\ufeff\n"
    hostile += "\ud83d\ude00\udc41\udcff"  # lone surrogates, each a character of its own
    vocabulary = make_vocabulary(hostile * 3)
    lm = make_model(vocabulary)
    data = pack_network(lm, Split.of(hostile * 3, vocabulary))
    assert data.json.isascii()
    escaped = data.json.replace("<", "\\u003c")
    path = tmp_path / "page.html"
    path.write_text(
        "<!DOCTYPE html><meta charset=utf-8><title>x</title>"
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; script-src 'unsafe-inline'\">"
        f'<script type="application/json" id="data">{escaped}</script>'
        f"<script>{MODEL_JS.read_text(encoding='utf-8')}"
        'const model = charlm.load(JSON.parse(document.getElementById("data").textContent));</script>',
        encoding="utf-8",
    )
    with browser.open(path) as visit:
        assert visit.page.evaluate("document.scripts.length") == 2
        page = PageModel.__new__(PageModel)
        page._page = visit.page
        assert page.run("_ => model.symbols") == [*vocabulary.symbols]
        assert_same_prices(page, lm, ["</script>", "\u2028\"'`", "\ud83d \udc41", "<!--\ufeff", "\udcff"])


# ---------------------------------------------------------------------------------------------------------- packing


def test_small_networks_are_float16_and_large_ones_int8_with_a_scale_per_row():
    vocabulary = make_vocabulary()
    for hidden_size, expected in ((256, "float16"), (512, "int8")):
        lm = make_model(vocabulary, hidden_size=hidden_size, std=0.1)
        data = pack_network(lm, None)
        weights = {**lm.mixture.network.arrays()}
        numbers = sum(array.size for array in weights.values() if array.ndim == 2)
        assert data.format == expected
        assert data.bytes >= numbers * (2 if expected == "float16" else 1)
        assert data.bytes <= 1.03 * numbers * (2 if expected == "float16" else 1)
        assert len(data.json) < 1.35 * data.bytes + 10_000
        for name, array in with_dequantized_weights(lm).mixture.network.arrays().items():
            if array.ndim == 1:
                np.testing.assert_array_equal(array, weights[name])
                continue
            rows = 0 if name == "recurrent.weight_ih_l0" else 1  # one scale for each symbol
            step = np.abs(weights[name]).max(rows, keepdims=True) / 127
            bound = step / 2 * 1.001 if expected == "int8" else np.abs(weights[name]) * 2.0**-11 + 2.0**-25
            assert (np.abs(array - weights[name]) <= bound).all()


@pytest.mark.parametrize("float16_bytes", [0, 1_000_000], ids=["int8", "float16"])
def test_the_weights_of_the_page_are_those_of_python_to_the_last_bit(visit: Visit, float16_bytes: int):
    vocabulary = make_vocabulary()
    network = randomize(make_network(len(vocabulary), hidden_size=8, num_layers=2))
    network.output.weight.data *= torch.logspace(-9, 4, 8)  # in float16 from nothing over subnormal numbers on
    lm = make_language_model(Mixture(network_expert(network)), vocabulary)
    data = pack_network(lm, None, float16_bytes=float16_bytes)
    weights = with_dequantized_weights(lm, float16_bytes=float16_bytes).mixture.network.arrays()
    page = PageModel(visit, data)
    found = page.run("""_ => {
        const {layers, output} = model._network;
        return [layers[0].U, layers[1].W, output].map(matrix => Array.from(matrix.values));
    }""")
    names = ("recurrent.weight_ih_l0", "recurrent.weight_hh_l1", "output.weight")
    for own, name in zip(found, names, strict=True):
        assert own == (weights[name].T if name == names[0] else weights[name]).ravel().tolist()


@pytest.mark.parametrize("value", [0.0, 1e-44, 2.7e-43, 1e30])
def test_extreme_weights_are_packed(visit: Visit, value: float):
    vocabulary = make_vocabulary()
    network = randomize(make_network(len(vocabulary), hidden_size=4))
    network.output.weight.data[:2] = value
    lm = make_language_model(Mixture(network_expert(network)), vocabulary)
    assert pack_network(lm, None).format == ("int8" if value > 1 else "float16")
    for float16_bytes in (0, 1_000_000):
        for array in with_dequantized_weights(lm, float16_bytes=float16_bytes).mixture.network.arrays().values():
            assert np.isfinite(array).all()
    if value < 1:
        assert_same_prices(PageModel(visit, pack_network(lm, None, float16_bytes=0)), lm, LINES, float16_bytes=0)


def test_a_cell_that_the_page_does_not_have_is_refused():
    vocabulary = make_vocabulary()
    network = make_network(len(vocabulary), hidden_size=4)
    reader = InferenceNetwork(network.config, network_expert(network).arrays())
    reader.config = network.config.model_copy(update={"cell": "new"})
    lm = make_language_model(Mixture(NetworkExpert(reader)), vocabulary)
    for refuses in (lambda: pack_network(lm, None), lambda: with_dequantized_weights(lm)):
        with pytest.raises(charlm.InputError, match="no cell 'new'"):
            refuses()


def test_the_page_has_the_network_alone_without_its_mixture(tiny_mixture_run: Path):
    lm = charlm.load(tiny_mixture_run)
    assert len(lm.mixture.experts) == 2
    python = with_dequantized_weights(lm)
    assert len(python.mixture.experts) == 1
    assert len(lm.mixture.experts) == 2  # it stays as it was
