"""One command from its words to its exit code: signals, rights of new files, errors."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from infrastructure.cli import output
from infrastructure.cli.words import hoist, plain_look
from infrastructure.errors import GangwayError, Interrupted
from infrastructure.program import COMPLETE_VARIABLE

if TYPE_CHECKING:
    from types import FrameType


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str]) -> None:
    """Runs the command line and exits with the code of the contract."""
    words = hoist(arguments)
    signal.signal(signal.SIGTERM, _terminated)
    before = os.umask(0o077)  # whatever a command writes is its owner's alone
    try:
        raise SystemExit(_run(words))
    finally:
        os.umask(before)


def _run(words: list[str]) -> int:
    shown = {"as_json": "--json" in words, "verbose": "-v" in words or "--verbose" in words}
    output.quiet_libraries(verbose=shown["verbose"])
    try:
        look = plain_look(words) if COMPLETE_VARIABLE not in os.environ else None
        if look is None:
            from infrastructure.cli import app

            return app.run(words, **shown)
        look()
    except GangwayError as error:
        return output.failure(error, **shown)
    except KeyboardInterrupt:
        return output.failure(Interrupted("interrupted"), **shown)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:  # the last resort: one line, never a traceback
        return output.unexpected(error, **shown)
    return 0
