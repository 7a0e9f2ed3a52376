"""What does charlm do on a GPU: does it compute the same as on a CPU, and how fast?

For a machine that nobody has prepared: it needs Python, PyTorch and what charlm requires, but no installation. One
command takes at most eight minutes:

    python benchmarks/gpu.py
    python benchmarks/gpu.py --only equality moving --out runs/gpu.jsonl
    python benchmarks/gpu.py --only curve --corpus my.txt --minutes 5
    python benchmarks/gpu.py --only threads --threads 1 2 4 8 16
    python benchmarks/gpu.py --device cpu --small --limit 120

The parts:

- equality: values and gradients of all cells, by every kernel of the device, against the equations on the CPU;
- moving: a run folder goes from CPU to GPU and back; its scores stay, and its training goes on;
- speed: characters a second of training, B = T = 128, beside plain nn.LSTM and nn.GRU over one-hot vectors;
- wide: the same with 6,000 symbols, by each kernel and precision: which of them should the plan take?
- writing: characters a second of writing and scoring, on the GPU and on the CPU;
- threads: characters a second of training on the CPU, with 1, 2, 4, 8 and 16 threads;
- curve: a training by `charlm train`, as long as there is time left, five minutes at most.

Each part runs in a process of its own, with a limit of its own, so that one that fails or hangs does not take the
others with it. Tables go to standard output, and every row as a line of JSON to `--out`. What was skipped is named,
with the reason. The exit code is 1 if a part failed or two numbers that should be equal were not.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command-line program sets it
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # charlm need not be installed

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import charlm
from charlm import kernels
from charlm.cells import CELLS, fused
from charlm.config import ModelConfig
from charlm.errors import CharlmError, InputError
from charlm.experts.mixture import Mixture
from charlm.experts.torch_network import TorchNetworkExpert
from charlm.model.network import CharacterModel, plan_layers
from charlm.system.allocator import keep_freed_memory
from charlm.system.threads import set_threads
from charlm.text.batches import IGNORE
from charlm.training.gradient import GradientComputer
from charlm.training.reports import load_metrics
from charlm.training.step import measure_speed
from measure import Meter, Workload, alternating_medians, describe_machine, print_table, throughput, train_default
from sampling_speed import charlm_writer
from scoring_speed import charlm_scorer, random_pieces
from training_speed import V, charlm_training, describe_plan, step_of

Row = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")

# ‖a - b‖ / ‖b‖ of what is computed on the device, and of the same by the equations on the CPU in float32.
TOLERANCES = {"float32": 1e-4, "tf32": 1e-2, "bfloat16": 3e-2}
EVALUATION_TOLERANCE = 1e-4  # always in float32
SCORE_TOLERANCE = 1e-4  # nats per character, of one model on two devices
RESUMED_TOLERANCE = 2e-2  # nats per character, of one training that goes on on two devices

SHAPES = [(cell, hidden, layers) for hidden, layers in ((512, 1), (1024, 2), (2048, 4)) for cell in ("lstm", "gru")]
WIDE_SYMBOLS = 6000
_AROUND_CURVE_SECONDS = 30.0  # to start, read the text, count n-grams and end, around a training's budget


class Sizes(NamedTuple):
    """How large everything is.

    Attributes:
        equality: V, H, T and B of the networks that are compared.
        shapes: cell, H and L of the trainings that are timed.
        window: B and T of these.
        wide: V and H.
        hidden: H of the model that writes and scores.
        curve: H, L, B and T of the training.
        seconds: to measure for, each time.
        rounds: of measurements.
    """

    equality: tuple[int, int, int, int] = (65, 256, 64, 32)
    shapes: Sequence[tuple[str, int, int]] = SHAPES
    window: tuple[int, int] = (128, 128)
    wide: tuple[int, int] = (WIDE_SYMBOLS, 1024)
    hidden: int = 512
    curve: tuple[int, int, int, int] = (1024, 2, 128, 128)
    seconds: float = 0.3
    rounds: int = 3


SMALL = Sizes((11, 16, 8, 4), [("lstm", 16, 1), ("gru", 16, 2)], (4, 8), (300, 16), 16, (16, 1, 8, 16), 0.01, 1)


class Part(NamedTuple):
    """A part of the script.

    Attributes:
        run: yields its rows, given the options and the time (`time.monotonic`) at which it will be stopped.
        limit: seconds that it may take.
        needs_device: whether it is about the device, and not the CPU alone.
    """

    run: Callable[[argparse.Namespace, float], Iterator[Row]]
    limit: float
    needs_device: bool = True


def sizes_of(options: argparse.Namespace) -> Sizes:
    return SMALL if options.small else Sizes()


# ------------------------------------------------------------------------------------------------------- equality


def equality(options: argparse.Namespace, _: float) -> Iterator[Row]:
    """Compares all cells, with a one-hot input and an embedding, with and without a factored output."""
    device = torch.device(options.device)
    for cell in CELLS.values():
        networks = [
            Comparison(cell.name, *how, sizes_of(options).equality)
            for how in itertools.product((None, 16), repeat=2)
        ]
        names = ["python"]
        names += ["fused"] * fused.has_kernel(cell.torch_kernel, device)
        names += ["compiled"] * (device.type == "cpu" and kernels.library() is not None)
        for kernel, precision in itertools.product(names, TOLERANCES):
            if precision == "tf32" and (kernel, device.type) != ("fused", "cuda"):
                continue
            row: Row = {"cell": cell.name, "kernel": kernel, "precision": precision}
            try:
                found = [network.differences(device, kernel, precision) for network in networks]
            except InputError as error:
                yield {**row, "skipped": str(error)}
                continue
            values, gradients, evaluation = map(largest, zip(*found, strict=True))
            tolerance = TOLERANCES[precision]
            ok = largest((values, gradients)) <= tolerance and evaluation <= EVALUATION_TOLERANCE
            yield {**row, "values": values, "gradients": gradients, "tolerance": tolerance,
                   "evaluation": evaluation, "tolerance of it": EVALUATION_TOLERANCE, "ok": ok}  # fmt: skip


def largest(numbers: Iterable[float]) -> float:
    """The largest, or NaN if there is one, which the largest of Python's would pass over."""
    return float(np.max(list(numbers)))


class Comparison:
    """One network, with what the equations make of it on the CPU in float32."""

    def __init__(
        self, cell: str, embedding: int | None, rank: int | None, sizes: tuple[int, int, int, int]
    ) -> None:
        self.symbols, hidden, T, B = sizes
        self.config = ModelConfig(
            cell=cell,
            hidden_size=hidden,
            num_layers=2,
            embedding_size=embedding,
            output_rank=rank,  # type: ignore[arg-type]
        )
        torch.manual_seed(0)
        plan = plan_layers(self.symbols, self.config, CPU, kernel="python", precision="float32")
        network = CharacterModel(self.symbols, self.config, plan)
        for parameter in network.parameters():
            if parameter.dim() == 1:
                parameter.data.normal_(0, 0.1)
        self.weights = network.state_dict()
        self.ids = torch.randint(self.symbols, (T, B))
        self.targets = torch.randint(self.symbols, (T, B))
        self.targets[T // 2 :, 0] = IGNORE
        self.state = [tuple(part.uniform_(-0.5, 0.5) for part in layer) for layer in network.initial_state(B)]
        self.expected = self._compute(network)

    def differences(self, device: torch.device, kernel: str, precision: str) -> tuple[float, float, float]:
        """The largest relative differences of values, gradients and evaluation."""
        asked = "float32" if precision == "tf32" else precision
        plan = plan_layers(self.symbols, self.config, device, kernel=kernel, precision=asked)
        network = CharacterModel(self.symbols, self.config, plan)
        network.load_state_dict(self.weights)
        with fused.exact_products() if precision == "float32" else nullcontext():
            found = self._compute(network.to(device))
        each = [
            largest(float((a.cpu() - b).norm() / b.norm()) for a, b in zip(ours, theirs, strict=True))
            for ours, theirs in zip(found, self.expected, strict=True)
        ]
        return each[0], each[1], each[2]

    def _compute(self, network: CharacterModel) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        x, y = self.ids.to(network.device), self.targets.to(network.device)
        state = [tuple(part.to(network.device) for part in layer) for layer in self.state]
        found = GradientComputer(network)(x, y, state, int((self.targets != IGNORE).sum()))
        expert = TorchNetworkExpert(network)
        reading, _ = expert.advance(self.ids.numpy(), state)
        logits = torch.from_numpy(expert.log_probs(reading.flatten(0, 1)))
        values = [found.loss, *(part for layer in found.state for part in layer)]
        return values, list(found.parameters), [logits]


# --------------------------------------------------------------------------------------------------------- moving


def moving(options: argparse.Namespace, _: float) -> Iterator[Row]:
    """Takes a run folder from the CPU to the device and back."""
    settings = {
        "model.hidden_size": 16 if options.small else 128,
        "model.num_layers": 2,
        "model.ngram": 3,
        "training.evaluate_every": "100%",
        "sampling.length": 20,
    }
    steps = 4 if options.small else 40
    with tempfile.TemporaryDirectory() as folder:
        run, twin = Path(folder, "run"), Path(folder, "twin")
        words = "the ferry went over the river in the evening, and nobody spoke of what the miller had seen. " * 9
        text, sentences = Path(folder, "text.txt"), list(random_pieces(words, 400, 10, 60))
        text.write_text("".join(f"{sentence}\n" for sentence in sentences), encoding="utf-8")

        def train(where: Path, device: str, until: int) -> float:
            how = (
                {"resume": True}
                if until > steps
                else {"config": {"corpus": {"path": str(text)}}, "overrides": settings}
            )
            charlm.train(out=where, device=device, budget=f"{until} steps", **how)  # type: ignore[arg-type]
            return float(load_metrics(where)[-1]["validation_loss"])

        def scores(device: str) -> list[float]:
            return [score.mean_logprob for score in charlm.load(run, device=device).score(sentences)]

        def same_scores(what: str) -> Row:
            there, here = scores(options.device), scores("cpu")
            most = largest(abs(a - b) for a, b in zip(there, here, strict=True))
            return {"what": what, "difference": most, "tolerance": SCORE_TOLERANCE, "ok": most <= SCORE_TOLERANCE}

        train(run, "cpu", steps)
        yield same_scores("trained on the CPU: scores on both")
        shutil.copytree(run, twin)
        difference = abs(train(run, options.device, 2 * steps) - train(twin, "cpu", 2 * steps))
        yield {"what": "resumed on the device and on the CPU: validation loss", "difference": difference,
               "tolerance": RESUMED_TOLERANCE, "ok": difference <= RESUMED_TOLERANCE}  # fmt: skip
        yield same_scores("resumed on the device: scores on both")
        difference = abs(train(run, "cpu", 3 * steps) - train(twin, "cpu", 3 * steps))
        yield {"what": "resumed on the CPU again: validation loss", "difference": difference,
               "tolerance": RESUMED_TOLERANCE, "ok": difference <= RESUMED_TOLERANCE}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- speed


class PlainModel(nn.Module):
    """What a good programmer writes with torch.nn for a one-hot input."""

    def __init__(self, cell: str, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](V, hidden, layers)
        self.output = nn.Linear(hidden, V)

    def forward(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        s, state = self.layers(F.one_hot(ids, V).to(self.output.weight.dtype), state)
        return self.output(s), state


def plain_step(
    cell: str, hidden: int, layers: int, batch: int, length: int, device: torch.device, dtype: torch.dtype
) -> Workload:
    """One training step of plain torch, all in one dtype."""
    return step_of(PlainModel(cell, hidden, layers).to(device, dtype), batch, length)


def is_out_of_memory(error: RuntimeError) -> bool:
    return "out of memory" in str(error) or "can't allocate memory" in str(error)


def speed(options: argparse.Namespace, _: float) -> Iterator[Row]:
    """Times training steps in turns: charlm's as it chooses and in float32, plain torch's in both precisions."""
    device, sizes = torch.device(options.device), sizes_of(options)
    for cell, hidden, layers in sizes.shapes:
        shape = (cell, hidden, layers, *sizes.window)
        row: Row = {"cell": cell, "H": hidden, "L": layers}
        try:
            step, batches = charlm_training(*shape, device=device)
            meters: list[Meter] = [
                partial(measure_speed, step, batches),
                partial(measure_speed, *charlm_training(*shape, precision="float32", device=device)),
                *(
                    partial(throughput, plain_step(*shape, device, dtype))
                    for dtype in (torch.bfloat16, torch.float32)
                ),
            ]
            ours, float32, plain_bfloat16, plain = alternating_medians(meters, sizes.rounds, sizes.seconds)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            yield {**row, "skipped": "the memory of the device is too small"}
            continue
        yield {**row, "charlm char/s": ours, "by": describe_plan(step), "torch.nn bfloat16 char/s": plain_bfloat16,
               "ratio": ours / plain_bfloat16, "charlm float32 char/s": float32, "torch.nn float32 char/s": plain,
               "ratio in float32": float32 / plain}  # fmt: skip


def wide(options: argparse.Namespace, _: float) -> Iterator[Row]:
    """Times one layer over thousands of symbols with each kernel and precision."""
    device, sizes = torch.device(options.device), sizes_of(options)
    symbols, hidden = sizes.wide
    for cell in ("lstm", "gru"):
        shape = (cell, hidden, 1, *sizes.window)
        chosen = describe_plan(charlm_training(*shape, symbols=symbols, device=device)[0])
        for kernel, precision in itertools.product(("python", "fused", "compiled"), ("float32", "bfloat16")):
            row: Row = {"cell": cell, "V": symbols, "H": hidden, "kernel": kernel, "precision": precision}
            how = {"kernel": kernel, "precision": precision, "symbols": symbols}
            try:
                training = charlm_training(*shape, **how, device=device)  # type: ignore[arg-type]
                speed = measure_speed(*training, sizes.seconds)
            except (InputError, RuntimeError) as error:
                if not isinstance(error, InputError) and not is_out_of_memory(error):
                    raise
                yield {**row, "skipped": str(error).splitlines()[0]}
                continue
            yield {**row, "char/s": speed, "chosen": "yes" if chosen == f"{kernel}, {precision}" else ""}


# -------------------------------------------------------------------------------------------------------- writing


def writing(options: argparse.Namespace, _: float) -> Iterator[Row]:
    """Times what is done with a model: writing, and scoring of lines."""
    sizes = sizes_of(options)
    with tempfile.TemporaryDirectory() as folder:
        trained = train_default(sizes.hidden, Path(folder, "run"))
        text = trained.vocabulary.decode(trained.corpus().validation.ids)
        lines = list(random_pieces(text, 20 if options.small else 2000, 20, 60))
        for device in dict.fromkeys((options.device, "cpu")):
            lm = charlm.load(trained.folder, device=device)
            alone = Mixture(lm.mixture.network)
            workloads = {
                "writing 1 text": charlm_writer(lm.mixture, 1, lm.vocabulary),
                "writing 1 text, network alone": charlm_writer(alone, 1, lm.vocabulary),
                "writing 64 texts": charlm_writer(lm.mixture, 64, lm.vocabulary),
                "writing 64 texts, network alone": charlm_writer(alone, 64, lm.vocabulary),
                "scoring lines": charlm_scorer(lm, lines),
            }
            for what, workload in workloads.items():
                yield {
                    "device": device,
                    "H": sizes.hidden,
                    "what": what,
                    "char/s": throughput(workload, sizes.seconds),
                }


# -------------------------------------------------------------------------------------------------------- threads


def threads(options: argparse.Namespace, _: float) -> Iterator[Row]:
    """Times training on the CPU with more and more threads."""
    sizes, cores = sizes_of(options), os.cpu_count() or 1
    hidden = sizes.shapes[0][1]
    for cell in ("lstm", "gru"):
        first = None
        for number in options.threads:
            row: Row = {"cell": cell, "H": hidden, "threads": number}
            if number > cores:
                yield {**row, "skipped": f"this machine has {cores} cores"}
                continue
            set_threads(number)
            step, batches = charlm_training(cell, hidden, 1, *sizes.window)
            found = measure_speed(step, batches, sizes.seconds)
            first = first or found
            yield {**row, "char/s": found, "by": describe_plan(step), "times the first": found / first}


# ---------------------------------------------------------------------------------------------------------- curve


def curve(options: argparse.Namespace, ends: float) -> Iterator[Row]:
    """Trains by the command line, and shows how the loss falls."""
    hidden, layers, batch, length = sizes_of(options).curve
    left = ends - time.monotonic()
    seconds = min(options.minutes * 60, left - _AROUND_CURVE_SECONDS)
    if seconds < 1:
        yield {
            "skipped": f"{left:.0f} seconds are left, and {_AROUND_CURVE_SECONDS:.0f} are needed around a training"
        }
        return
    settings = {
        "model.hidden_size": hidden,
        "model.num_layers": layers,
        "training.batch_size": batch,
        "training.sequence_length": length,
        "training.learning_rate": 2e-3,
        "training.evaluate_every": "10%",
    }
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        command = [
            *(sys.executable, "-m", "charlm", "train", "--quiet", "--corpus", options.corpus, "--out", str(run)),
            *("--budget", f"{seconds:.0f}s", "--device", options.device),
            *(word for key, value in settings.items() for word in ("--set", f"{key}={value}")),
        ]
        print(f"curve: {' '.join(command)}", file=sys.stderr, flush=True)
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=sys.stderr)
        wanted = ("seconds", "step", "characters", "train_loss", "validation_loss", "characters_per_second")
        shown, over = 0, False
        while not over:
            over = process.poll() is not None or time.monotonic() > ends - 2
            for each in load_metrics(run)[shown:] if (run / "metrics.jsonl").exists() else ():
                shown += 1
                yield {name: each[name] for name in wanted}
            time.sleep(0.0 if over else 0.2)
        if process.poll() is None:
            process.kill()
            process.wait()
            yield {"skipped": "the end of the training: its time was over"}
        elif process.returncode:
            yield {"failed": f"the training ended with exit code {process.returncode}"}


PARTS = {
    "equality": Part(equality, 40),
    "moving": Part(moving, 60),
    "speed": Part(speed, 80),
    "wide": Part(wide, 30),
    "writing": Part(writing, 30),
    "threads": Part(threads, 40, needs_device=False),
    "curve": Part(curve, 480),
}


# -------------------------------------------------------------------------------------------- one process for each


def _work(name: str, options: argparse.Namespace, ends: float, connection: Connection) -> None:
    """Runs a part in its own process, which leads a session, so that it can be ended with all that it started."""
    os.setsid()
    keep_freed_memory()
    torch.manual_seed(0)
    try:
        for row in PARTS[name].run(options, ends):
            connection.send(row)
    except Exception as error:
        if not isinstance(error, CharlmError):
            traceback.print_exc()
        connection.send({"failed": f"{type(error).__name__}: {str(error)[:500]}"})
    connection.close()


def run_part(name: str, options: argparse.Namespace, limit: float) -> Iterator[Row]:
    """Yields the rows of a part as they come, for so many seconds at most."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    ends = time.monotonic() + limit
    process = context.Process(target=_work, args=(name, options, ends, theirs))
    process.start()
    theirs.close()
    try:
        while ours.poll(max(0.0, ends - time.monotonic())):
            yield ours.recv()
        yield {"skipped": f"the rest: stopped after {limit:.0f} seconds"}
    except EOFError:
        process.join(5)
        if process.exitcode:
            yield {"failed": f"the process ended with {process.exitcode}"}
    finally:
        if process.pid and process.is_alive():
            with suppress(ProcessLookupError):  # it does not lead a session yet, and has started nothing
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
        process.join()


def shown(value: Any) -> str:
    """A number as it stands in a table."""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def print_rows(rows: Sequence[Row]) -> None:
    """Prints the rows that have numbers as a table, and the others below it."""
    bodies = [row for row in rows if not {"skipped", "failed"} & set(row)]
    columns = list(dict.fromkeys(name for row in bodies for name in row))
    if bodies:
        print_table([columns, *([shown(row.get(name, "")) for name in columns] for row in bodies)])
    for row in rows:
        for kind in {"skipped", "failed"} & set(row):
            what = ", ".join(f"{name} {value}" for name, value in row.items() if name != kind)
            print(f"{kind}: {what + ': ' if what else ''}{row[kind]}", flush=True)


def describe(device: str) -> Row:
    """What the figures belong to."""
    row: Row = {"machine": describe_machine(), "cores": os.cpu_count(), "compiled": kernels.library() is not None}
    if device == "cuda" and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        row |= {"gpu": properties.name, "memory GB": round(properties.total_memory / 1e9)}
        row |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return row


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="what is looked at")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="run only these parts")
    parser.add_argument("--limit", type=positive(float), default=480.0, help="seconds that all of it may take")
    parser.add_argument(
        "--minutes", type=positive(float), default=5.0, help="of the training, if there is as much time left"
    )
    parser.add_argument("--corpus", default="corpus:python", help="the text of the training, the larger the better")
    parser.add_argument(
        "--threads", nargs="+", type=positive(int), default=[1, 2, 4, 8, 16], help="numbers of CPU threads"
    )
    parser.add_argument("--small", action="store_true", help="sizes that say nothing, to try the script itself")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu.jsonl"), help="the file of the lines of JSON")
    options = parser.parse_args()
    if "curve" in options.only and not options.corpus.startswith("corpus:") and not Path(options.corpus).exists():
        parser.error(f"--corpus {options.corpus}: no such file or folder")  # better now than after minutes
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("", encoding="utf-8")
    except OSError as error:
        parser.error(f"--out {options.out}: cannot be written: {error.strerror}")
    return options


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not 0 < value < 1e6:
            raise argparse.ArgumentTypeError(f"{text}: must be a number above 0")
        return value

    return number


def main() -> int:
    options = parse_options()
    begun = time.monotonic()
    failed = False
    with options.out.open("a", encoding="utf-8") as file:

        def note(row: Row) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()

        machine = describe(options.device)
        note(machine)
        print("\n".join(f"{name}: {shown(value)}" for name, value in machine.items()))
        for name in options.only:
            part, left = PARTS[name], options.limit - (time.monotonic() - begun)
            rows: list[Row] = []
            print(f"{name} …", file=sys.stderr, flush=True)
            if part.needs_device and options.device == "cuda" and not torch.cuda.is_available():
                found: Iterator[Row] = iter([{"skipped": "PyTorch finds no CUDA device on this machine"}])
            elif left < 5:
                found = iter([{"skipped": f"the {options.limit:.0f} seconds of --limit are spent"}])
            else:
                found = run_part(name, options, min(part.limit, left))
            start = time.monotonic()
            for row in found:
                rows.append(row)
                note({"part": name, **row})
            failed |= any("failed" in row or row.get("ok") is False for row in rows)
            print(f"\n## {name}, {time.monotonic() - start:.0f} s\n", flush=True)
            print_rows(rows)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
