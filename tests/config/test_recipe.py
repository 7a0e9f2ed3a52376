"""The recipe: whatever the text, the time and the machine, a configuration that is valid and fits them."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import charlm
from charlm.config import load_config, parse_amount
from charlm.config.recipe import (
    SIZES,
    TextProperties,
    choose,
    dropout,
    ngram_order,
    number_of_networks,
    validation_share,
)

texts = st.builds(
    TextProperties,
    characters=st.integers(20, 10**9),
    held_out=st.integers(0, 10**8),
    symbols=st.integers(3, 10_000),
    line_length=st.none() | st.floats(1, 10_000),
)
budgets = st.tuples(st.just("seconds"), st.floats(1, 10**6)) | st.tuples(
    st.sampled_from(["epochs", "steps", "characters"]), st.floats(1, 10**9)
)


def machine(flops: float) -> Any:
    """A machine on which a character costs what its products cost."""
    return lambda settings: flops / (4 * settings["model.hidden_size"] ** 2 + 20_000)


@given(text=texts, budget=budgets, flops=st.floats(1e8, 1e13))
def test_every_choice_is_a_valid_configuration(
    text: TextProperties, budget: tuple[str, float], flops: float
) -> None:
    recipe = choose(text, {}, budget, machine(flops))
    config = load_config({"corpus": {"path": "x"}}, recipe.settings)
    assert config.model.hidden_size in SIZES
    assert config.training.batch_size <= max(1, text.characters // 8)
    parse_amount(config.training.evaluate_every)
    assert 8 <= len(recipe.reasons) <= 9
    labels = [reason.partition(": ")[0] for reason in recipe.reasons]
    kinds = ["text", "speed", "budget", "model", "mixture", "training", "dropout", "sampling"]
    assert list(dict.fromkeys(labels)) == kinds
    assert all(len(reason.partition(": ")[2]) <= 69 for reason in recipe.reasons)


@given(text=texts, seconds=st.floats(1, 1e5), flops=st.floats(1e8, 1e12))
def test_more_time_never_buys_a_much_smaller_model(text: TextProperties, seconds: float, flops: float) -> None:
    few, many = (
        choose(text, {}, ("seconds", s), machine(flops)).settings["model.hidden_size"]
        for s in (seconds, 8 * seconds)
    )
    assert many >= few


@given(text=texts, budget=budgets)
def test_what_is_given_is_left_alone(text: TextProperties, budget: tuple[str, float]) -> None:
    every = choose(text, {}, budget, machine(1e10)).settings
    for key, value in every.items():
        assert key not in choose(text, {key: value}, budget, machine(1e10)).settings


def test_a_small_text_gets_a_small_model_much_dropout_and_no_more_time_than_it_can_use() -> None:
    recipe = choose(TextProperties(20_000, 2_000, 60, None, 0.18), {}, ("seconds", 3600.0), machine(5e10))
    assert recipe.settings["model.hidden_size"] <= 96
    assert recipe.settings["model.dropout"] > 0.15
    assert recipe.settings["model.recurrent_dropout"] > 0.25
    assert parse_amount(recipe.settings["training.budget"])[1] < 3600


@pytest.mark.parametrize(
    ("epochs", "characters", "networks"),
    [
        (0.1, 1e9, 1), (6.9, 1e8, 1), (7, 5.9e6, 1), (7, 6e6, 2), (29.9, 1e6, 1), (30, 1e5, 2), (89, 1e5, 2),
        (90, 1e5, 3), (119, 1e9, 3), (120, 1e9, 4), (9999, 1e9, 4),
    ],
)  # fmt: skip
def test_a_text_that_is_read_often_enough_gets_several_networks(
    epochs: float, characters: float, networks: int
) -> None:
    assert number_of_networks(epochs, characters) == networks


def test_who_trains_a_network_alone_or_with_several_processes_gets_one() -> None:
    text = TextProperties(20_000, 2_000, 60, None, 0.18)

    def chosen(*budget: Any, processes: int = 1, **given: Any) -> Any:
        return choose(text, given, budget, machine(5e10), processes=processes).settings.get("model.networks")

    assert chosen("seconds", 3600.0) == 4
    assert chosen("seconds", 3600.0, processes=2) == 1
    assert chosen("seconds", 3600.0, **{"model.ngram": None}) == 1
    assert chosen("epochs", 100.0) == 1
    recipe = choose(text, {"model.networks": 2}, ("seconds", 3600.0), machine(5e10))
    assert "mixture: with 9-grams, word contexts and 1 further network" in recipe.reasons


def test_the_temperature_is_chosen_and_said_unless_it_is_given() -> None:
    text = TextProperties(20_000, 2_000, 60, None, 0.18)
    recipe = choose(text, {}, ("steps", 100.0), machine(5e10))
    assert recipe.settings["sampling.temperature"] == 0.85
    assert "temperature 0.85" in recipe.reasons[-1]
    recipe = choose(text, {"sampling.temperature": 0.5}, ("steps", 100.0), machine(5e10))
    assert not any("temperature" in reason for reason in recipe.reasons)


def test_dropout_rises_with_the_passes() -> None:
    rates = [dropout(passes, 0.1) for passes in (0.01, 1, 3, 5, 10, 20, 60, 1e6)]
    assert rates == sorted(rates)
    assert rates[0] == 0
    assert rates[-1] == 0.5


@given(share=st.floats(0, 0.9), characters=st.integers(1, 10**10), seconds=st.floats(1, 1e6))
def test_evaluating_takes_little_of_the_budget(share: float, characters: int, seconds: float) -> None:
    found = validation_share(share, characters, seconds)
    assert 0 <= found <= share
    assert found * characters <= max(10_000 * seconds, 40_000) or math.isclose(found, share)


def test_zero_config_says_what_it_chose_and_leaves_a_yaml_that_does_the_same(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    notes: list[str] = []

    class Observer:
        def on_step(self, report: Any) -> None: ...
        def on_evaluation(self, metrics: Any, sample: str, is_best: bool) -> None: ...
        def on_note(self, note: str) -> None:
            notes.append(note)

    set_by_hand: Mapping[str, Any] = {"model.hidden_size": 24, "training.sequence_length": 8}
    lm = charlm.train(
        corpus=tiny_corpus, budget="30 steps", out=tmp_path / "a", overrides=set_by_hand, observer=Observer()
    )
    assert [note.split(":")[0] for note in notes] == [
        "framing", "validation", "text", "speed", "budget", "model", "mixture", "training", "dropout", "sampling",
    ]  # fmt: skip
    assert lm.config.training.weight_decay == 0.1
    assert notes[-2].endswith("; weight decay 0.1")
    assert lm.config.corpus.framing == "lines"
    assert notes[-5:-3] == ["model: LSTM, hidden size 24 (as set)", "mixture: with 12-grams and word contexts"]
    assert "sequence length 8, learning rate " in notes[-3]
    assert (lm.config.model.hidden_size, lm.config.training.sequence_length) == (24, 8)
    again = charlm.train(tmp_path / "a" / "config.yaml", out=tmp_path / "b")
    assert again.config == lm.config
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (
        tmp_path / "b" / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("seconds", [3])
def test_a_budget_of_time_is_measured_and_kept(seconds: int, tiny_corpus: Path, tmp_path: Path) -> None:
    lm = charlm.train(corpus=tiny_corpus, budget=f"{seconds}s", out=tmp_path / "run")
    assert lm.config.model.hidden_size in SIZES
    assert lm.config.model.ngram is not None


def test_a_few_lines_are_no_more_than_there_are_in_a_batch() -> None:
    recipe = choose(TextProperties(180, 20, 15, 9.0, 0.0), {}, ("steps", 10.0), machine(5e10))
    assert recipe.settings["training.batch_size"] == 20


def test_words_are_counted_where_blanks_part_them_and_never_beside_a_network_that_is_to_be_alone() -> None:
    def words(blanks: float, **given: object) -> bool:
        text = TextProperties(20_000, 2_000, 60, None, blanks)
        settings = {key.replace("__", "."): value for key, value in given.items()}
        recipe = choose(text, settings, ("steps", 10.0), machine(5e10))
        return recipe.settings.get("model.words", settings.get("model.words"))

    assert words(0.18)
    assert not words(0.01)
    assert not words(0.18, model__ngram=None)
    assert words(0.01, model__words=True, model__ngram=None)


@pytest.mark.parametrize(
    ("distinct", "order"),  # n-grams of 1, 2, … symbols for each character
    [
        ([], 9),
        ([0.001] * 12, 12),
        ([0, 0, 0, 0.1, 0.2, 0.2, 0.2, 0.3, 0.3, 0.3, 0.3, 0.5], 11),  # 1.3 up to 9, 1.9 up to 11
        ([0, 0.01, 0.1, 0.3, 0.6, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], 9),  # more than six bytes already
        ([0.0] * 30, 12),
    ],
)
def test_ngrams_are_as_long_as_six_bytes_a_character_allow(distinct: list[float], order: int) -> None:
    assert ngram_order(distinct) == order
    text = TextProperties(10**6, 10**5, 60, None, 0.1, distinct)
    assert choose(text, {}, ("steps", 10.0), machine(5e10)).settings["model.ngram"] == order
    many = TextProperties(10**6, 10**5, 3000, None, 0.1, distinct)
    assert choose(many, {}, ("steps", 10.0), machine(5e10)).settings["model.ngram"] == 7


@pytest.mark.parametrize(("processes", "batch"), [(1, 16), (2, 16), (3, 18), (5, 20)])
def test_processes_share_the_batch_evenly(processes: int, batch: int) -> None:
    text = TextProperties(1_000_000, 100_000, 65, None, 0.0)
    recipe = choose(text, {}, ("steps", 10.0), machine(5e10), processes=processes)
    assert recipe.settings["training.batch_size"] == batch
