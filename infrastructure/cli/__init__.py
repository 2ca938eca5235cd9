"""The command line: parse, call, show. `run_and_exit()` is what deploy.py and `gangway` run.

Each command is a module of `infrastructure.cli.commands`, imported only when it is called; the
table in `app.py` is all that `--help` needs. Its text is kept in `help.txt` (scripts/reference
writes it, a test compares it), so that `--help` answers at once, without importing typer.
"""

import gc
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn, TextIO

from infrastructure.program import COMPLETE_VARIABLE, NAME, worded

WIDTH = 80
HELP_FILE = Path(__file__).with_name("help.txt")


def run_and_exit() -> NoReturn:
    """The whole program: the command line of this process, and then its end."""
    # A command lives for a second or two and frees nothing: searching for garbage while hundreds
    # of modules load would only take time.
    gc.set_threshold(200_000, 50, 50)
    _reopen_closed()
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else bool(end.code)
    except KeyboardInterrupt:  # while modules were loading: nothing has begun
        sys.stderr.write("error: interrupted\n")
        code = 130
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads it any more, or its disk is full; what was said was said before
        code = code or 1
    os._exit(code)  # all is done: taking the interpreter apart would only take time


def _reopen_closed() -> None:
    """Without a standard stream (`>&-`) the next file that is opened would take its place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits with the code of the contract."""
    words = sys.argv[1:] if arguments is None else arguments
    kept = words in ([], ["--help"]) and COMPLETE_VARIABLE not in os.environ
    if kept and not _narrow(sys.stdout if words else sys.stderr):
        text = HELP_FILE.read_text(encoding="utf-8").replace("Usage: deploy.py", f"Usage: {NAME}")
        (sys.stdout if words else sys.stderr).write(worded(text))
        raise SystemExit(0 if words else 2)
    _without_plugins()
    from infrastructure.cli.running import main as run

    run(words)


def _without_plugins() -> None:
    """The models' library looks for plugins among all packages, and loads the mail library for it.

    That is an eighth of the time that a command takes to start; none is wanted here.
    """
    name = "pydantic.plugin._loader"
    if name not in sys.modules:
        sys.modules[name] = ModuleType(name)
        sys.modules[name].get_plugins = tuple  # type: ignore[attr-defined]


def _narrow(stream: TextIO) -> bool:
    """Whether the terminal is narrower than the text that is kept."""
    try:
        return os.get_terminal_size(stream.fileno()).columns < WIDTH
    except (OSError, ValueError):  # a file, a pipe, or nothing at all
        return False
