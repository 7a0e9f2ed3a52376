"""Whether the disk has room for what a training will write."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from charlm.errors import TrainingError
from charlm.experts.mixture import Mixture
from charlm.store.run_folder import RunFolder
from charlm.training.optimization import optimizer_slots
from charlm.training.step import TrainingStep


def check_room(
    mixture: Mixture, step: TrainingStep, keep: int, folder: RunFolder, note: Callable[[str], None]
) -> None:
    """Compares the room on the disk of a run folder, which must be there, with what training will write into it.

    A file is replaced by one that is written beside it, so that both need room for a moment.

    Args:
        mixture: what is trained, and stored with the experts beside it.
        step: its optimiser, of which a checkpoint has everything.
        keep: how many checkpoints are kept.
        folder: where all of it is written.
        note: is told that the room will not do for both the old files and the new.

    Raises:
        TrainingError: there is too little room for a single copy of the files.
    """
    model = _bytes(mixture.tensors().values())
    checkpoint = model + _bytes(optimizer_slots(step.optimizer).values())
    experts = sum(array.nbytes for expert in mixture.others for array in expert.arrays().values())
    once = model + checkpoint + experts
    most = once + checkpoint * keep
    free = folder.free_bytes()
    told = (
        f"{folder.path}: a run takes {_megabytes(once)} at least and {_megabytes(most)} at most while its files "
        f"are replaced, and this disk has {_megabytes(free)} free; make room, or name another folder by --out"
    )
    if free < once:
        raise TrainingError(told)
    if free < most:
        note(told)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _megabytes(number: int) -> str:
    return f"{number / 1e6:,.1f} MB"
