"""The harness's own command line, knowing the model: `python -m charlm.lm_eval run --model charlm …`.

The harness finds an entry point by itself only from the release after 0.4.13 on.
"""

import sys

from charlm.errors import CharlmError, InputError


def main() -> None:
    """Runs the command line of the harness; what is wrong with a run folder is said in one message."""
    try:
        _evaluate()
    except CharlmError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _evaluate() -> None:
    try:
        from lm_eval.__main__ import cli_evaluate

        import charlm.lm_eval.model  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lm_eval":
            raise
        raise InputError(
            "the lm-evaluation-harness is not installed; run `pip install 'charlm[lm-eval]'`"
        ) from None
    cli_evaluate()


if __name__ == "__main__":
    main()
