"""The plan follows the cell, the shapes, the device and the machine, and nothing else decides on a kernel."""

from typing import Any

import pytest
import torch

from charlm.cells import CELLS
from charlm.cells.plan import MIN_STEPS, Machine, Plan, find_machine, make_plan
from charlm.errors import InputError

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))
PLAIN = Machine(compiled=False, compiled_bfloat16=False, bfloat16=False)
FAST = Machine(compiled=False, compiled_bfloat16=False, bfloat16=True)
COMPILED = Machine(compiled=True, compiled_bfloat16=False, bfloat16=False)
COMPILED_FAST = Machine(compiled=True, compiled_bfloat16=True, bfloat16=True)


def plan(
    cell: str = "lstm", H: int = 256, *, V: int = 65, layers: int = 1, device: torch.device = CPU, **settings: Any
) -> Plan:
    settings.setdefault("machine", PLAIN)
    return make_plan(CELLS[cell], [V, *[H] * (layers - 1)], H, device, **settings)


def choice(*args: Any, **settings: Any) -> tuple[str, str]:
    """The kernel of the first layer in training, and the precision."""
    found = plan(*args, **settings)
    return found.kernels[0], str(found.dtype).removeprefix("torch.")


@pytest.mark.parametrize(
    ("settings", "fast", "plain"),
    [
        ({"cell": "lstm", "H": 64, "batch_size": 8}, ("fused", "bfloat16"), ("fused", "float32")),
        # An input wider than 2H is not worth multiplying.
        ({"cell": "lstm", "H": 64, "V": 129}, ("python", "float32"), ("python", "float32")),
        ({"cell": "gru", "H": 512, "batch_size": 64}, ("python", "bfloat16"), ("python", "float32")),
        # A product too small to prepare weights for.
        ({"cell": "gru", "H": 512, "batch_size": 16}, ("python", "float32"), ("python", "float32")),
        (
            {"cell": "gru", "H": 512, "batch_size": 64, "precision": "float32"},
            ("python", "float32"),
            ("python", "float32"),
        ),
        (
            {"cell": "gru", "H": 512, "batch_size": 1, "precision": "bfloat16"},
            ("python", "bfloat16"),
            ("python", "bfloat16"),
        ),
        ({"cell": "lstm", "kernel": "fused"}, ("fused", "bfloat16"), ("fused", "float32")),
        ({"cell": "lstm", "kernel": "fused", "precision": "float32"}, ("fused", "float32"), ("fused", "float32")),
        ({"cell": "lstm", "kernel": "python"}, ("python", "float32"), ("python", "float32")),
        # Where a wide input is multiplied in bfloat16, it is by the fused kernel.
        ({"cell": "lstm", "V": 5000, "precision": "bfloat16"}, ("fused", "bfloat16"), ("fused", "bfloat16")),
    ],
)
def test_without_a_compiler_bfloat16_is_chosen_where_pytorch_gains_by_it(
    settings: dict[str, Any], fast: tuple[str, str], plain: tuple[str, str]
) -> None:
    assert choice(**settings, machine=FAST) == fast
    assert choice(**settings, machine=PLAIN) == plain


def test_the_kernels_are_compiled_where_there_is_a_compiler() -> None:
    assert choice("gru", 128, machine=COMPILED_FAST) == ("compiled", "bfloat16")
    assert choice("gru", 64, machine=COMPILED_FAST) == ("compiled", "float32")  # too small to gain
    assert choice("gru", 128, machine=COMPILED) == ("compiled", "float32")
    assert choice("gru", 128, machine=COMPILED, kernel="compiled") == ("compiled", "float32")
    assert choice("gru", 128, machine=COMPILED_FAST, kernel="compiled") == ("compiled", "bfloat16")
    assert choice("lstm", machine=COMPILED_FAST, kernel="fused") == ("fused", "bfloat16")
    assert choice("lstm", machine=COMPILED_FAST, kernel="python", precision="float32") == ("python", "float32")
    assert choice("lstm", V=5000, machine=COMPILED_FAST) == ("compiled", "bfloat16")  # looked up, however wide


@pytest.mark.parametrize(("cell", "kernel"), [("lstm", "fused"), ("gru", "python"), ("rnn", "python")])
def test_bfloat16_that_the_compiled_kernels_lack_is_left_to_pytorch(cell: str, kernel: str) -> None:
    assert choice(cell, machine=COMPILED, precision="bfloat16") == (kernel, "bfloat16")


@pytest.mark.parametrize("machine", [PLAIN, FAST, COMPILED, COMPILED_FAST])
@pytest.mark.parametrize("cell", CELLS)
def test_outside_training_the_fastest_kernel_in_float32_is_taken_whatever_is_asked_for(
    cell: str, machine: Machine
) -> None:
    fastest = plan(cell, machine=machine, precision="float32").kernels
    for precision in ("auto", "float32", "bfloat16"):
        for kernel in ("auto", "python"):
            found = plan(cell, machine=machine, precision=precision, kernel=kernel)
            assert found.evaluation_kernels == fastest
            assert found.kernel(0, 99, torch.float32, training=False) == fastest[0]


def test_each_layer_is_computed_as_its_own_input_asks_for() -> None:
    assert plan(H=64, V=129, layers=3).kernels == ("python", "fused", "fused")
    assert plan(H=64, V=128, layers=3).kernels == ("fused", "fused", "fused")
    assert plan(H=64, V=129, layers=2, machine=COMPILED).kernels == ("compiled", "compiled")
    assert plan(H=64, V=129, layers=2, precision="bfloat16").kernels == ("fused", "fused")


def test_weights_of_another_type_and_a_step_or_two_are_computed_in_python() -> None:
    for machine, kernel in ((PLAIN, "fused"), (COMPILED, "compiled")):
        found = plan(machine=machine)
        assert found.kernel(0, MIN_STEPS, torch.float32, training=False) == kernel
        assert found.kernel(0, MIN_STEPS - 1, torch.float32, training=False) == "python"
        for training in (False, True):
            assert found.kernel(0, 99, torch.float32, training=training) == kernel
            assert found.kernel(0, 99, torch.float64, training=training) == "python"


@pytest.mark.parametrize(
    ("cell", "device", "kernel"),
    [
        ("rnn", CUDA, "fused"),
        ("lstm", CUDA, "fused"),
        ("gru", CUDA, "fused"),
        ("gru-before", CUDA, "python"),
        ("lstm", MPS, "python"),
        ("rnn", CPU, "python"),  # on the CPU PyTorch's own are slow
        ("gru", CPU, "python"),
        ("lstm", CPU, "fused"),
    ],
)
def test_pytorchs_kernels_are_taken_where_it_has_fast_ones(cell: str, device: torch.device, kernel: str) -> None:
    assert choice(cell, device=device) == (kernel, "float32")


@pytest.mark.parametrize(
    ("settings", "kernels", "evaluation", "precision"),
    [
        ({"cell": "lstm", "H": 512, "layers": 2}, ("fused",) * 2, ("fused",) * 2, "bfloat16"),
        ({"cell": "gru", "H": 512, "batch_size": 1}, ("fused",), ("fused",), "bfloat16"),
        ({"cell": "lstm", "precision": "float32"}, ("fused",), ("fused",), "float32"),
        # A wide one-hot input is looked up, unless somebody asks for bfloat16.
        ({"cell": "lstm", "V": 6000, "layers": 2}, ("python", "fused"), ("python", "fused"), "float32"),
        (
            {"cell": "lstm", "V": 6000, "layers": 2, "precision": "bfloat16"},
            ("fused",) * 2,
            ("python", "fused"),
            "bfloat16",
        ),
        ({"cell": "gru-before", "H": 512, "batch_size": 128}, ("python",), ("python",), "bfloat16"),
        ({"cell": "gru-before", "H": 64}, ("python",), ("python",), "float32"),
    ],
)
def test_on_cuda_cudnn_computes_in_bfloat16_what_it_can_and_one_thread_asks_it_to(
    settings: dict[str, Any], kernels: tuple[str, ...], evaluation: tuple[str, ...], precision: str
) -> None:
    found = plan(**settings, device=CUDA, machine=FAST)
    assert (found.kernels, found.evaluation_kernels) == (kernels, evaluation)
    assert found.dtype == getattr(torch, precision)
    assert found.row_threads(128, 16) is None
    old = plan(**settings, device=CUDA, machine=PLAIN)  # a card that has no bfloat16
    assert (old.dtype == torch.bfloat16) is (settings.get("precision") == "bfloat16")


@pytest.mark.parametrize(
    ("cell", "device"), [("gru-before", CPU), ("rnn", CPU), ("gru", CPU), ("gru-before", CUDA), ("lstm", MPS)]
)
def test_a_fused_kernel_that_is_not_there_is_refused(cell: str, device: torch.device) -> None:
    message = (
        f"training.kernel fused: PyTorch has no fused kernel for {cell} on {device.type}; use training.kernel auto"
    )
    with pytest.raises(InputError, match=message):
        plan(cell, device=device, kernel="fused", machine=COMPILED_FAST)


def test_compiled_kernels_that_are_not_there_are_refused() -> None:
    message = r"training\.kernel compiled: lstm on cpu has no compiled kernel, which needs .* a CPU, .*use .* auto"
    with pytest.raises(InputError, match=message):
        plan(kernel="compiled", machine=FAST)
    unknown = CELLS["lstm"]._replace(name="another")  # a cell that nobody has written in C
    with pytest.raises(InputError, match=r"training\.kernel compiled: another on cpu has no compiled kernel"):
        make_plan(unknown, [65], 256, CPU, kernel="compiled", machine=COMPILED_FAST)
    with pytest.raises(
        InputError, match=r"training\.precision bfloat16: this processor cannot multiply bfloat16 in C"
    ):
        plan(kernel="compiled", precision="bfloat16", machine=COMPILED)


def test_a_cell_that_is_only_written_in_python_runs_in_python() -> None:
    own = CELLS["gru"]._replace(name="another", torch_kernel=None)
    for machine in (PLAIN, COMPILED, COMPILED_FAST):
        found = make_plan(own, [65], 64, CPU, machine=machine)
        assert found.kernels == found.evaluation_kernels == ("python",)
        assert found.dtype == torch.float32


def test_this_machine_is_asked_where_none_is_named() -> None:
    for device in (CPU, MPS):
        machine = find_machine(device)
        assert plan(device=device, machine=None) == plan(device=device, machine=machine)
    assert find_machine(MPS) == PLAIN


# Recurrent weights G·H², products in a step B·G·H²: LSTM, H = 256: 2^18; H = 512: 2^20.


@pytest.mark.parametrize(
    ("settings", "rows", "threads", "expected"),
    [
        ({"H": 256, "machine": COMPILED}, 16, 2, 2),
        ({"H": 256, "machine": COMPILED}, 16, 8, 4),  # at least four rows each
        ({"H": 256, "machine": COMPILED}, 7, 8, None),  # one thread would have all; PyTorch divides better
        ({"H": 256, "machine": COMPILED}, 16, 1, None),
        ({"H": 64, "machine": COMPILED}, 15, 2, 1),  # 15 · 2^14 products in a step: too few to divide
        ({"H": 64, "machine": COMPILED}, 16, 2, 2),
        ({"H": 64}, 63, 2, 1),  # the other kernels need four times as many
        ({"H": 64}, 64, 2, 2),
        ({"H": 512}, 64, 2, None),  # fused weights that no core's cache holds
        ({"H": 512, "kernel": "python"}, 64, 2, 2),
        ({"H": 512, "machine": COMPILED}, 64, 2, 2),
        ({"H": 256, "device": CUDA}, 64, 8, None),
    ],
)
def test_rows_are_divided_among_threads_where_that_pays(
    settings: dict[str, Any], rows: int, threads: int, expected: int | None
) -> None:
    assert plan(**settings).row_threads(rows, threads) == expected
