"""Models side by side: parameters that match, runs read as data, and where two models differ on one text."""

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import charlm
import runs
from charlm.analysis.comparison import (
    check_unchanged,
    find_unlike,
    match_hidden_size,
    measure_run,
    parameter_count,
    plan_trainings,
    read_memory,
    record_memory,
    summarize,
)
from charlm.analysis.differences import subtract_surprisal
from charlm.analysis.gradients import compare_with_untrained, held_out
from charlm.config import MAX_HIDDEN_SIZE, ModelConfig, load_config
from charlm.errors import ConfigError, InputError, RunError
from charlm.store.run_folder import RunFolder
from charlm.training.reports import load_metrics

CELLS = ("rnn", "lstm", "gru", "gru-before")
TEXT = "the heron has bread.\na miller likes 船 and a boat.\nthe lamp\n"

# -------------------------------------------------------------------------------------------------- parameters


@given(
    vocabulary=st.integers(2, 5000),
    cell=st.sampled_from(CELLS),
    layers=st.integers(1, 3),
    bias=st.booleans(),
    widths=st.tuples(*[st.none() | st.integers(1, 300)] * 2),
    parameters=st.integers(1, 10**8),
)
def test_no_neighbouring_hidden_size_has_a_nearer_number_of_parameters(
    vocabulary: int, cell: Any, layers: int, bias: bool, widths: tuple[int | None, int | None], parameters: int
) -> None:
    config = ModelConfig(cell=cell, num_layers=layers, bias=bias, embedding_size=widths[0], output_rank=widths[1])

    def off(size: int) -> int:
        return abs(parameter_count(vocabulary, config.model_copy(update={"hidden_size": size})) - parameters)

    size = match_hidden_size(vocabulary, config, parameters)
    assert 1 <= size <= MAX_HIDDEN_SIZE
    assert all(off(size) <= off(near) for near in (size - 1, size + 1) if 1 <= near <= MAX_HIDDEN_SIZE)


def test_the_own_cell_keeps_its_hidden_size_when_parameters_are_matched(tiny_corpus: Path, tmp_path: Path) -> None:
    config = load_config(runs.config(tiny_corpus))
    planned = plan_trainings(config, CELLS, tmp_path, match_parameters=True)
    sizes = {training.config.model.cell: training.config.model.hidden_size for training in planned}
    assert sizes[config.model.cell] == config.model.hidden_size
    assert sizes["rnn"] > sizes["gru"] > sizes["lstm"]


def test_parameters_are_those_of_the_trained_network(tiny_run: Path) -> None:
    lm = charlm.load(tiny_run, device="cpu")
    assert measure_run(lm).parameters == parameter_count(len(lm.vocabulary), lm.config.model)


# -------------------------------------------------------------------------------------------------- plans


def test_cells_share_everything_but_their_cell_and_their_seed(tiny_corpus: Path, tmp_path: Path) -> None:
    config = load_config(runs.config(tiny_corpus, seed=7))
    planned = plan_trainings(config, ("rnn", "lstm"), tmp_path, seeds=2)
    assert [training.name for training in planned] == ["rnn-7", "lstm-7", "rnn-8", "lstm-8"]
    assert [training.folder.path.name for training in planned] == [training.name for training in planned]
    for training in planned:
        own = {"model.cell": config.model.cell, "training.seed": 7}
        assert load_config(training.config.model_dump(), own) == config


@pytest.mark.parametrize(("cells", "error"), [(("lsmt",), ConfigError), (("rnn", "gru", "rnn"), InputError)])
def test_cells_that_are_unknown_or_named_twice_are_refused(
    cells: tuple[str, ...], error: type[Exception], tiny_corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match="--cells"):
        plan_trainings(load_config(runs.config(tiny_corpus)), cells, tmp_path)


def test_standard_input_is_refused_as_it_cannot_be_read_for_each_cell(tmp_path: Path) -> None:
    config = load_config({"corpus": {"path": "-"}})
    with pytest.raises(InputError, match="standard input"):
        plan_trainings(config, CELLS, tmp_path)


@pytest.mark.parametrize(
    ("key", "value"), [("training.budget", "41 steps"), ("model.hidden_size", 8), ("training.seed", 2)]
)
def test_a_run_with_other_settings_is_refused_even_where_a_resume_could_change_them(
    key: str, value: Any, tiny_run: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_run, tmp_path / "lstm")
    config = load_config(folder / "config.yaml")
    (same,) = plan_trainings(load_config(config.model_dump(), {"corpus.framing": "auto"}), ["lstm"], tmp_path)
    check_unchanged(same)
    (other,) = plan_trainings(load_config(config.model_dump(), {key: value}), ["lstm"], tmp_path)
    with pytest.raises(RunError, match=key):
        check_unchanged(other)


# -------------------------------------------------------------------------------------------------- results


def test_a_run_is_told_by_its_metrics_its_model_and_what_it_writes(tiny_run: Path) -> None:
    lm = charlm.load(tiny_run, device="cpu")
    rows = load_metrics(tiny_run)
    result = measure_run(lm, prompt="the ", length=12)
    assert (result.cell, result.hidden_size, result.num_layers, result.seed) == ("lstm", 16, 1, 1)
    assert result.nats_per_character == min(row["validation_loss"] for row in rows)
    assert result.bits_per_character == pytest.approx(result.nats_per_character / math.log(2))
    assert result.continuation == next(iter(lm.sample(prompt="the ", length=12, only_new=True)))
    assert (result.characters, result.seconds) == (rows[-1]["characters"], rows[-1]["seconds"])
    assert [dataclasses.asdict(point) for point in result.curve] == [
        {key: row[key] for key in ("characters", "seconds", "train_loss", "validation_loss")} for row in rows
    ]
    speeds = [row["characters_per_second"] for row in rows]
    assert min(speeds) <= result.characters_per_second <= max(speeds)


def test_the_half_life_is_that_of_the_top_layers_state_and_unknown_without_held_out_text(
    tiny_run: Path, tmp_path: Path
) -> None:
    lm = charlm.load(tiny_run, device="cpu")
    found = measure_run(lm).half_life
    report = compare_with_untrained(lm, held_out(lm), "")
    (expected,) = [each.half_life for each in report.networks["trained"].states if each.state == "s"]
    assert found == pytest.approx(expected)
    folder = RunFolder(shutil.copytree(tiny_run, tmp_path / "run"))
    gone = folder.config.read_text().replace("path:", "path: /nowhere/corpus.txt #")
    folder.config.write_text(gone)
    assert measure_run(charlm.load(folder.path, device="cpu")).half_life is None


def test_memory_is_known_where_it_was_recorded_and_a_damaged_file_is_named(tiny_run: Path, tmp_path: Path) -> None:
    folder = RunFolder(shutil.copytree(tiny_run, tmp_path / "run"))
    assert read_memory(folder) is None
    record_memory(folder, 12345)
    assert read_memory(folder) == 12345
    assert measure_run(charlm.load(folder.path, device="cpu")).peak_memory_bytes == 12345
    for content in ("{", "[]", '{"peak_memory_bytes": "1"}', '{"peak_memory_bytes": -1}'):
        (folder.path / "memory.json").write_text(content)
        with pytest.raises(RunError, match=r"memory\.json: damaged"):
            read_memory(folder)


def test_several_seeds_give_their_mean_and_spread(tiny_run: Path) -> None:
    result = measure_run(charlm.load(tiny_run, device="cpu"))
    losses = (1.0, 1.5, 3.5)
    some = [
        dataclasses.replace(result, nats_per_character=loss, seconds=loss, peak_memory_bytes=int(10 * loss))
        for loss in losses
    ]
    row = summarize("lstm", some)
    assert (row.nats_per_character, row.seconds, row.peak_memory_bytes) == (2.0, 2.0, 35)
    assert row.half_life == pytest.approx(result.half_life)
    lacking = [*some, dataclasses.replace(result, half_life=None)]
    assert summarize("lstm", lacking).half_life is None
    assert row.nats_spread == pytest.approx(math.sqrt((1 + 0.25 + 2.25) / 2))
    assert row.bits_per_character == pytest.approx(2 / math.log(2))
    assert summarize("lstm", some[:1]).nats_spread is None
    unknown = summarize("lstm", [*some, dataclasses.replace(result, nats_per_character=None)])
    assert (unknown.nats_per_character, unknown.nats_spread, unknown.peak_memory_bytes) == (None, None, None)


def test_runs_on_another_text_or_split_are_told(
    tiny_run: Path, tiny_mixture_run: Path, tiny_lines_run: Path, tmp_path: Path
) -> None:
    stream, mixture, lines = (
        charlm.load(run, device="cpu") for run in (tiny_run, tiny_mixture_run, tiny_lines_run)
    )
    assert find_unlike([stream, mixture]) == []
    (remark,) = find_unlike([stream, mixture, lines])
    assert "corpus.framing is 'stream' in one and 'lines' in the other" in remark
    other = tmp_path / "other.txt"
    other.write_text("another text, about a boat.\n" * 60)
    same = load_config(stream.config.model_dump(), {"corpus.path": str(other)})
    elsewhere = charlm.train(same, out=tmp_path / "run")
    (remark,) = find_unlike([stream, elsewhere])
    assert "training texts" in remark


# -------------------------------------------------------------------------------------------------- differences


@pytest.mark.parametrize("first", ["tiny_run", "tiny_lines_run"])
@pytest.mark.parametrize("second", ["tiny_mixture_run", "tiny_lines_run"])
def test_differences_of_surprisal_sum_to_the_difference_in_nats(
    first: str, second: str, request: pytest.FixtureRequest
) -> None:
    a, b = (charlm.load(request.getfixturevalue(run), device="cpu") for run in (first, second))
    result = subtract_surprisal(a, b, TEXT)
    assert math.fsum(char.difference for char in result.chars) == pytest.approx(result.difference, abs=1e-6)
    parts = [TEXT] if "lines" not in first + second else TEXT.splitlines()
    ends = "lines" in first and "lines" in second
    nats = [-sum(score.logprob for score in model.score(parts, eos=ends)) for model in (a, b)]
    assert [result.first, result.second] == pytest.approx(nats, abs=1e-6)
    assert result.difference == pytest.approx(nats[0] - nats[1], abs=1e-6)
    read = "".join("" if char.char == "</s>" else char.char for char in result.chars)
    assert read == "".join(parts)
    largest = [abs(result.chars[i].difference) for i in result.largest(5)]
    assert largest == sorted(map(abs, (char.difference for char in result.chars)), reverse=True)[:5]


def test_an_empty_text_and_models_that_see_other_characters_are_refused(tiny_run: Path, tmp_path: Path) -> None:
    lm = charlm.load(tiny_run, device="cpu")
    with pytest.raises(InputError, match="empty"):
        subtract_surprisal(lm, lm, "\n\n")
    settings = {"corpus.lowercase": True, "training.budget": "2 steps"}
    lower = charlm.train(load_config(lm.config.model_dump(), settings), out=tmp_path / "run")
    with pytest.raises(InputError, match=r"corpus\.lowercase"):
        subtract_surprisal(lm, lower, "The boat")
