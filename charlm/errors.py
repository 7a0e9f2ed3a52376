"""The exceptions that charlm raises deliberately, and their exit codes.

    CharlmError            a failure while running                   exit code 1
    ├── TrainingError      training cannot continue: a loss that is not finite, a full disk
    ├── Interrupted        stopped by a signal; the work is saved    exit code 128 + signal
    └── InputError         wrong usage or invalid input              exit code 2
        ├── ConfigError    an invalid configuration
        ├── CorpusError    a text that cannot be read or is too small
        └── RunError       a run folder that is missing, incomplete, damaged or too new

The command line prints the message and exits with `exit_code`; in Python they are ordinary exceptions.
"""


class CharlmError(Exception):
    """The base class of all exceptions that charlm raises deliberately."""

    exit_code = 1


class TrainingError(CharlmError):
    """Training cannot continue. What was saved before is intact."""


class Interrupted(CharlmError):  # noqa: N818 (not an error, like KeyboardInterrupt)
    """A signal stopped the training. The work is saved, and `--resume` continues it.

    Args:
        signal_number: the signal received, for example `signal.SIGINT`.
        message: what was saved and how to continue.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class InputError(CharlmError):
    """The usage is wrong or the input is invalid."""

    exit_code = 2


class ConfigError(InputError):
    """The configuration is not valid. The message lists every problem."""


class CorpusError(InputError):
    """A text cannot be read, or it is too small for its use."""


class RunError(InputError):
    """A run folder is missing, incomplete, damaged or of another format."""
