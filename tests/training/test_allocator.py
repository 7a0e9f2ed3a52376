"""Training keeps the memory that it frees."""

import platform
import subprocess
import sys

import pytest

from charlm.training.allocator import keep_freed_memory

PROGRAM = """
import resource, torch
from charlm.training.allocator import keep_freed_memory
if {keep}:
    keep_freed_memory()
torch.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.ones(1 << 24)  # 64 MB, written and freed
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    """Pages that the system had to bring for four blocks of 64 MB, one after another."""
    program = [sys.executable, "-c", PROGRAM.format(keep=keep)]
    return int(subprocess.run(program, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_that_was_freed_is_used_again_without_asking_the_system() -> None:
    without = faults(keep=False)
    # Now and then the heap lies where it cannot grow, and glibc falls back to fresh memory: hence several tries.
    assert any(2 * faults(keep=True) < without for _ in range(6))


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
