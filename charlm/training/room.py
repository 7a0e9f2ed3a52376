"""Whether the disk has room for what a training will write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from charlm.errors import TrainingError
from charlm.experts.mixture import Mixture
from charlm.model.exchange import as_arrays
from charlm.store.run_folder import RunFolder
from charlm.system.counts import format_size
from charlm.training.optimization import optimizer_slots
from charlm.training.step import TrainingStep


def check_room(
    mixture: Mixture, step: TrainingStep, keep: int, folder: RunFolder, note: Callable[[str], None]
) -> None:
    """Compares the room on the disk of a run folder, which must be there, with what training will write into it.

    A file is replaced by one that is written beside it, so that both need room for a moment. What a run that goes
    on has written before is there already.

    Args:
        mixture: what is trained, and stored with the experts beside it.
        step: its optimiser, of which a checkpoint has everything.
        keep: how many checkpoints are kept.
        folder: where all of it is written.
        note: is told that the room will not do for both the old files and the new.

    Raises:
        TrainingError: there is too little room for a single copy of the files.
    """
    model = _bytes(mixture.arrays())
    checkpoint = model + _bytes(as_arrays(optimizer_slots(step.optimizer)))
    experts = sum(_bytes(expert.arrays()) for expert in mixture.others)
    there = folder.weights_bytes()
    once = max(model + checkpoint + experts - there, checkpoint)
    most = max(model + checkpoint + experts + checkpoint * keep - there, once)
    free = folder.free_bytes()
    more = "more " if there else ""
    advice = "move the folder to another disk" if there else "name another folder with --out"
    told = (
        f"{folder.path}: this run needs at least {format_size(once)} {more}of disk space, and up to "
        f"{format_size(most)} {more}while its files are replaced, but this disk has {format_size(free)} free; make "
        f"room, or {advice}"
    )
    if free < once:
        raise TrainingError(told)
    if free < most:
        note(told)


def _bytes(arrays: Mapping[str, NDArray[Any]]) -> int:
    return sum(array.nbytes for array in arrays.values())
