"""Everything that charlm raises on purpose.

    CharlmError            a failure while running                      exit code 1
    ├── TrainingError      training cannot go on: a loss that is not finite, a full disk
    ├── Interrupted        stopped by a signal, with the work saved     exit code 128 + signal
    └── InputError         wrong use or bad input                       exit code 2
        ├── ConfigError    a configuration that says something impossible
        ├── CorpusError    text that cannot be read or is too small
        └── RunError       a run folder that is missing, incomplete or from elsewhere

The command line prints the message and leaves with `exit_code`; from Python they are ordinary exceptions.
"""


class CharlmError(Exception):
    """Base of all errors that charlm raises on purpose."""

    exit_code = 1


class TrainingError(CharlmError):
    """Training cannot go on; what was saved before is whole."""


class Interrupted(CharlmError):  # noqa: N818 (as KeyboardInterrupt: not an error)
    """A signal asked training to stop; the work is saved and `--resume` goes on.

    Args:
        signal_number: the signal received, for example `signal.SIGINT`.
        message: what was saved and how to go on.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class InputError(CharlmError):
    """Wrong use or bad input."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration that is not valid; the message lists every problem."""


class CorpusError(InputError):
    """Text that cannot be read, or is too small for what is asked of it."""


class RunError(InputError):
    """A run folder that is missing, incomplete, damaged or from a newer charlm."""
