#!/bin/sh
""":"  # The command, in two languages: sh starts the environment's own Python, without a second
# interpreter on the way (--help and completion feel it), and Python reads these lines as text.
[ -x "${0%/*}/.venv/bin/python" ] && exec "${0%/*}/.venv/bin/python" "$0" "$@"
exec python3 "$0" "$@"
"""  # noqa: D205, D415

import os
import sys

_VENV = os.path.join(os.path.dirname(os.path.realpath(__file__)), ".venv")  # noqa: PTH118, PTH120


def _enter_environment() -> None:
    """Re-runs this command inside .venv, so that it works without activating anything."""
    python = f"{_VENV}/bin/python"
    if os.path.realpath(sys.prefix) == os.path.realpath(_VENV):
        return
    if os.access(python, os.X_OK):
        os.execv(python, [python, __file__, *sys.argv[1:]])  # noqa: S606
    try:
        import typer  # noqa: F401
    except ImportError:
        sys.stderr.write("error: the environment is not set up\nhint: make setup\n")
        raise SystemExit(2) from None


if __name__ == "__main__":
    try:
        _enter_environment()
        from infrastructure.cli import run_and_exit
    except KeyboardInterrupt:  # while modules were loading: nothing has begun
        sys.stderr.write("error: interrupted\n")
        raise SystemExit(130) from None
    run_and_exit()
