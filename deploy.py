#!/bin/sh
""":"  # The command, in two languages: sh starts the environment's own Python, without a second
# interpreter on the way (--help and completion feel it), and Python reads these lines as text.
[ -x "${0%/*}/.venv/bin/python" ] && exec "${0%/*}/.venv/bin/python" "$0" "$@"
exec python3 "$0" "$@"
"""  # noqa: D205, D415

import gc
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


def _run() -> int:
    """The exit code of the command line."""
    # A command lives for a second or two and frees nothing: searching for garbage while hundreds
    # of modules load would only take time.
    gc.set_threshold(200_000, 50, 50)
    from infrastructure.cli import main

    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else bool(end.code)
    return 0


if __name__ == "__main__":
    try:
        _enter_environment()
        code = _run()
    except KeyboardInterrupt:  # while modules were loading: nothing has begun
        sys.stderr.write("error: interrupted\n")
        code = 130
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is done: taking the interpreter apart would only take time
