"""The folder for Hugging Face transformers, loaded and used by it: the network and the tokenizer are charlm's."""

import ast
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

if "CI" not in os.environ:  # there it must be installed
    pytest.importorskip(
        "transformers", reason="transformers is not installed: pip install -c constraints.txt transformers"
    )

import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

import charlm
from charlm.export.hugging_face import CODE, write_folder
from charlm.export.network import Figures, measure_figures
from charlm.language_model import LanguageModel
from charlm.training.reports import load_metrics
from exported import LINES, TEXTS, all_networks, all_texts, make_model, network_alone, program

TOLERANCE = 1e-4
UNKNOWN_FIGURES = Figures(None, None, "", "not measured")
Exported = tuple[Any, Any]  # model and tokenizer
Export = Callable[[LanguageModel], Exported]


@pytest.fixture(scope="module", autouse=True)
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where transformers copies the code of a folder to before it is run; and it may ask no network."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    with pytest.MonkeyPatch.context() as patch:
        cache = str(tmp_path_factory.mktemp("modules"))
        patch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", cache)
        patch.setattr(socket.socket, "connect", refuse)
        yield


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """A function that writes the folder of a model and loads it."""

    def write_and_load(lm: LanguageModel) -> Exported:
        if not (tmp_path / "model").exists():
            write_folder(lm, UNKNOWN_FIGURES, tmp_path / "model")
        return load(tmp_path / "model")

    return write_and_load


def load(folder: Path) -> Exported:
    kinds = AutoModelForCausalLM, AutoTokenizer
    model, tokenizer = (kind.from_pretrained(folder, trust_remote_code=True) for kind in kinds)
    return model, tokenizer


def logits_of(lm: LanguageModel, ids: list[int]) -> Any:
    """Returns charlm's logits after each symbol of one text, (T, V)."""
    network = lm.mixture.network
    reading, _ = network.advance(np.array(ids)[:, None], network.initial_state(1))
    return network.log_probs(reading[:, 0])


# ----------------------------------------------------------------------------------------------------- the network


@all_networks
def test_logits_are_those_of_charlm(cell: str, settings: dict[str, Any], export: Export) -> None:
    lm = make_model(cell=cell, **settings)
    model, _ = export(lm)
    ids = np.random.default_rng(0).integers(len(lm.vocabulary), size=(2, 15))
    with torch.inference_mode():
        whole = model(torch.from_numpy(ids)).logits
        first = model(torch.from_numpy(ids[:, :6]))
        rest = model(torch.from_numpy(ids[:, 6:]), state=first.state).logits
    assert whole.dtype == torch.float32
    for row in range(2):
        assert whole[row].numpy() == pytest.approx(logits_of(lm, ids[row].tolist()), abs=TOLERANCE)
    assert torch.cat([first.logits, rest], 1).numpy() == pytest.approx(whole.numpy(), abs=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("cell", ["lstm", "gru-before"])
def test_a_text_is_read_the_same_whatever_it_is_padded_to(cell: str, side: str, export: Export) -> None:
    model, tokenizer = export(make_model(cell=cell, num_layers=2))
    texts = ["the boat", "a heron has bread", ""]
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side=side)
    with torch.inference_mode():
        found = model(**batch)
        for row, text in enumerate(texts):
            alone = model(**tokenizer(text, return_tensors="pt"))
            real = batch.attention_mask[row].bool()
            assert found.logits[row, real].numpy() == pytest.approx(alone.logits[0].numpy(), abs=1e-5)
            for together, single in zip(found.state, alone.state, strict=True):
                assert together[:, row].numpy() == pytest.approx(single[:, 0].numpy(), abs=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_loss_is_the_mean_cross_entropy_of_what_is_not_padding(side: str, export: Export) -> None:
    lm = make_model()
    model, tokenizer = export(lm)
    texts = ["the boat", "a heron has bread"]
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side=side)
    with torch.inference_mode():
        loss = model(**batch, labels=batch.input_ids).loss.item()
    scores = lm.score(texts, eos=False)
    expected = -sum(score.logprob for score in scores) / sum(score.n for score in scores)
    assert loss == pytest.approx(expected, abs=TOLERANCE)


def test_training_moves_the_weights(export: Export) -> None:
    model, tokenizer = export(make_model(cell="gru-before"))
    ids = tokenizer("the boat sees the river", return_tensors="pt").input_ids
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        losses.append(model(ids, labels=ids).loss)
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]


# ---------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("cell", ["lstm", "gru-before"])
def test_greedy_writing_takes_the_likeliest_symbol_and_reads_each_once(
    cell: str, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = make_model(cell=cell)
    model, tokenizer = export(lm)
    lengths: list[int] = []
    forward = type(model).forward

    def counting(self: Any, input_ids: Any, **kwargs: Any) -> Any:
        lengths.append(input_ids.shape[1])
        return forward(self, input_ids, **kwargs)

    monkeypatch.setattr(type(model), "forward", counting)
    batch = tokenizer(["the boat", "a heron has"], return_tensors="pt", padding=True)
    written = model.generate(**batch, max_new_tokens=20, do_sample=False)
    assert lengths == [batch.input_ids.shape[1]] + [1] * 19
    for row, mask in zip(written.tolist(), batch.attention_mask.tolist(), strict=True):
        ids = row[mask.index(1) :]
        for length in range(len(ids) - 20, len(ids)):
            logits = logits_of(lm, ids[:length])[-1]
            logits[lm.vocabulary.unknown_id] = -np.inf
            assert logits[ids[length]] == pytest.approx(logits.max(), abs=TOLERANCE)


def test_drawn_texts_follow_the_seed_and_the_distribution(export: Export) -> None:
    lm = make_model(corpus="ab\n" * 9, hidden_size=3)
    model, tokenizer = export(lm)
    batch = tokenizer(["a"] * 4000, return_tensors="pt")
    texts = []
    for _ in range(2):
        torch.manual_seed(5)
        texts.append(model.generate(**batch, max_new_tokens=1, do_sample=True, top_k=0)[:, -1])
    assert torch.equal(*texts)
    logits = logits_of(lm, batch.input_ids[0].tolist())[-1]
    logits[0] = -np.inf  # <unk> is never written
    p = np.exp(logits - logits.max())
    shares = np.bincount(texts[0].numpy(), minlength=len(lm.vocabulary)) / 4000
    assert shares == pytest.approx(p / p.sum(), abs=0.04)  # five standard deviations


def test_beams_are_as_likely_as_they_say(export: Export) -> None:
    lm = make_model(corpus="abc\n" * 9, hidden_size=3)
    model, tokenizer = export(lm)
    batch = tokenizer("a", return_tensors="pt")
    settings = {
        "max_new_tokens": 6,
        "num_beams": 4,
        "do_sample": False,
        "length_penalty": 0.0,
        "suppress_tokens": None,
    }
    found = model.generate(**batch, **settings, output_scores=True, return_dict_in_generate=True)
    ids = found.sequences[0].tolist()
    logits = logits_of(lm, ids[:-1])
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = sum(log_probs[place, ids[place + 1]] for place in range(1, len(ids) - 1))
    assert found.sequences_scores.item() == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("framing", ["stream", "lines"])
def test_a_text_ends_with_its_line_in_lines_framing_alone(framing: str, export: Export) -> None:
    model, tokenizer = export(make_model({"framing": framing}))
    torch.manual_seed(0)
    batch = tokenizer(["the "] * 8, return_tensors="pt")
    written = model.generate(**batch, max_new_tokens=60, do_sample=True)
    texts = tokenizer.batch_decode(written[:, batch.input_ids.shape[1] :], skip_special_tokens=True)
    assert any("\n" in text for text in texts) == (framing == "stream")
    assert (min(map(len, texts)) < 60) == (framing == "lines")
    if framing == "stream":
        ended = model.generate(**batch, max_new_tokens=60, do_sample=True, eos_token_id=tokenizer.eos_token_id)
        ends = (ended[:, batch.input_ids.shape[1] :] == tokenizer.eos_token_id).sum(1)
        assert ends.max() == 1


# ---------------------------------------------------------------------------------------------------- the tokenizer


@all_texts
def test_text_becomes_the_symbols_of_charlm_and_text_again(text: dict[str, Any], export: Export) -> None:
    lm = make_model(text)
    _, tokenizer = export(lm)
    vocabulary = lm.vocabulary
    assert len(tokenizer) == tokenizer.vocab_size == len(vocabulary)
    for line in [*LINES, "one\ntwo\n", "<unk> </s>", "\udce4 \ud800", " \t "]:
        ids = tokenizer(line).input_ids
        expected = vocabulary.encode_sentence(vocabulary.normalize(line)).tolist()
        assert ids == [vocabulary.boundary_id, *expected], line
        special = [vocabulary.unknown_id, vocabulary.boundary_id if vocabulary.framing == "lines" else None]
        known = [i for i in expected if i not in special]
        assert tokenizer.decode(ids[1:], skip_special_tokens=True) == vocabulary.decode(known)


def test_saved_again_it_is_the_same(export: Export, tmp_path: Path) -> None:
    model, tokenizer = export(make_model({"framing": "lines", "normalization": "nfc"}))
    model.save_pretrained(tmp_path / "again")
    tokenizer.save_pretrained(tmp_path / "again")
    again, tokenizer_again = load(tmp_path / "again")
    ids = tokenizer(LINES[0], return_tensors="pt").input_ids
    assert torch.equal(ids, tokenizer_again(LINES[0], return_tensors="pt").input_ids)
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, again(ids).logits)


# -------------------------------------------------------------------------------------------- the code and the card


def test_the_code_that_travels_needs_torch_and_transformers_alone() -> None:
    names = set()
    for name in CODE:
        tree = ast.parse((resources.files("charlm.export.hf_files") / f"{name}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(str(node.module).split(".")[0])
    standard = {"__future__", "dataclasses", "json", "math", "pathlib", "re", "typing", "unicodedata"}
    assert names - standard == {"torch", "transformers"}


def test_the_card_tells_figures_and_statistics_but_no_text_and_no_paths(
    tiny_mixture_run: Path, tiny_corpus: Path, tiny_text: str, tmp_path: Path
) -> None:
    lm = charlm.load(tiny_mixture_run)
    figures = measure_figures(lm)
    write_folder(lm, figures, tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert f"| this network | {figures.network:.4f} |" in card
    assert f"| the mixture that it is a part of | {figures.mixture:.4f} |" in card
    trained = lm.corpus().train
    assert f"| characters | {trained.characters:,} |" in card
    assert f"| bytes in UTF-8 | {trained.bytes:,} |" in card
    assert f"| passes | {load_metrics(tiny_mixture_run)[-1]['epoch']:.1f} |" in card
    assert "license: unknown" in card
    assert "**To be filled in by the author.**" in card
    assert "  hidden_size: 16\n" in card
    for file in (tmp_path / "model").iterdir():
        content = file.read_bytes()
        for telling in (str(tiny_corpus), tiny_corpus.name, str(tiny_mixture_run), "the boat", "heron"):
            assert telling.encode() not in content, file.name


@pytest.mark.parametrize(
    "lm",
    [*map(make_model, TEXTS), make_model(corpus="the boat sees the river " * 9)],
    ids=["stream", "lines", "stream-nfc", "lines-byte", "no ends of lines"],
)
def test_the_program_on_the_card_runs_and_scores_as_charlm_does(
    lm: LanguageModel, export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(lm)
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", card, re.M | re.S)
    code = code.replace('folder = "."', f"folder = {str(tmp_path / 'model')!r}").replace("A sentence.", "the boat")
    capsys.readouterr()
    exec(code, {})
    loss = float(capsys.readouterr().out.splitlines()[-1])
    assert loss == pytest.approx(-lm.score(["the boat"])[0].mean_logprob, abs=TOLERANCE)


def test_the_program_of_the_page_runs(
    tiny_mixture_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = network_alone(charlm.load(tiny_mixture_run))
    write_folder(lm, UNKNOWN_FIGURES, tmp_path / "my-model")
    monkeypatch.chdir(tmp_path)
    exec(program("python", 1), {})
    written = ast.literal_eval(capsys.readouterr().out.splitlines()[-1])
    assert len(written) == 2
    assert "A boat was" not in written[0]


def test_configuration_and_vocabulary_are_plain_json(tiny_run: Path, tmp_path: Path) -> None:
    lm = charlm.load(tiny_run)
    write_folder(lm, UNKNOWN_FIGURES, tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    assert (config["cell"], config["hidden_size"], config["num_hidden_layers"]) == ("lstm", 16, 1)
    assert json.loads((tmp_path / "model/vocab.json").read_text()) == list(lm.vocabulary.symbols)
