"""One command from its words to its exit code: signals, rights of new files, errors.

`plan` and `status` are what people, scripts and monitors call all day. Typer takes longer to load
than they take to answer, so their plain forms are read here. Everything else, and every word that
is not exactly one of these, goes to typer: its parser has the last word, and all the messages.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

from infrastructure.cli import output
from infrastructure.errors import GangwayError, Interrupted, UsageError
from infrastructure.program import COMPLETE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from infrastructure.cli.settings import Settings

_VALUE_OPTIONS = ("--config", "--target", "--trust-host-key")
_FLAGS = ("--json", "-v", "--verbose", "-q", "--quiet")


def hoist(arguments: list[str]) -> list[str]:
    """Moves the global options to the front, so that `plan --json` works like `--json plan`."""
    front: list[str] = []
    rest: list[str] = []
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        if word == "--":
            return [*front, *rest, word, *queue]
        if word in _FLAGS or word.startswith(tuple(f"{name}=" for name in _VALUE_OPTIONS)):
            front.append(word)
        elif word in _VALUE_OPTIONS:
            front += [word, *queue[:1]]
            del queue[:1]
        else:
            rest.append(word)
    return [*front, *rest]


def refuse_empty(words: list[str]) -> None:
    """Raises UsageError for an empty word: that is a shell variable which is not set.

    It would be read as no bound, as the latest, or as every one. Only an answer to what `init` asks
    may be empty.
    """
    looked = words[: words.index("init")] if _command(words) == "init" else words
    for before, word in pairwise(["", *looked]):
        option, equals, value = word.partition("=")
        if option.startswith("--") and equals and not value.strip():
            what = option
        elif not word.strip():
            what = f"what follows {before}" if before else "the first word"
        else:
            continue
        hint = "leave it out if nothing is meant; a shell variable that is not set ends up so"
        raise UsageError(f"{what} is empty", hint=hint)


COMMENT = "--reason"
"""Of the kill switch, which never refuses for its comment."""
_HALT_OPTIONS = ("--keep-orders", "--all", "--help")


def without_empty_comment(words: list[str]) -> list[str]:
    """The words of `halt` without a reason that is empty or is the next option: no variable is set.

    Quoted, `$REASON` leaves an empty word; unquoted none, and what follows would be the reason.
    """
    if _command(words) != "halt":
        return words
    kept: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word.startswith(f"{COMMENT}="):
            kept += [word] if word.partition("=")[2].strip() else []
        elif word != COMMENT:
            kept.append(word)
        elif queue and queue[0] not in _HALT_OPTIONS:
            reason = queue.pop(0)
            kept += [word, reason] if reason.strip() else []
    return kept


def _command(words: list[str]) -> str:
    """The command's name; the options of the whole program stand before it."""
    queue = iter(words)
    for word in queue:
        if word in _VALUE_OPTIONS:
            next(queue, None)
        elif not word.startswith("-"):
            return word
    return ""


def plain_look(words: list[str]) -> Callable[[], None] | None:
    """What a plain `plan [--check]` or `status` does; None when typer has to read the words.

    `words`: with the global options in front, as `hoist` gives them.
    """
    queue = iter(words)
    options: dict[str, str | None] = {}
    command: list[str] = []
    for word in queue:
        if not word.startswith("-"):
            command = [word, *queue]
        elif not _option(word, queue, options):
            return None
    if command not in (["plan"], ["plan", "--check"], ["status"]):
        return None
    if "," in (options.get("--target") or ""):
        return None  # several targets
    check = command[-1] == "--check"
    plan = command[0] == "plan"

    def look() -> None:
        from infrastructure import kept

        with kept.used():
            current = _settings(options)
            if plan:
                from infrastructure.cli.plan_view import show as show_plan

                show_plan(current, check=check)
            else:
                from infrastructure.cli.status_view import show as show_status

                show_status(current)

    return look


def _option(word: str, queue: Iterator[str], options: dict[str, str | None]) -> bool:
    """Notes one global option; False for what is none, or has no plain value."""
    name, equals, value = word.partition("=")
    if name in _FLAGS and not equals:
        options[name] = None
        return True
    if name not in _VALUE_OPTIONS:
        return False
    value = value if equals else next(queue, "")
    options[name] = value
    return bool(value) and not value.startswith("-")


def _settings(options: dict[str, str | None]) -> Settings:
    from infrastructure.cli.settings import Settings

    current = Settings(options.get("--config"), options.get("--target"))
    current.verbose = "-v" in options or "--verbose" in options
    current.quiet = "-q" in options or "--quiet" in options
    current.trust_host_key = options.get("--trust-host-key")
    current.out.json = "--json" in options
    return current


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
            words = without_empty_comment(words)
            refuse_empty(words)
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
    except OSError as error:
        if error.filename:
            return output.failure(_local(error), **shown)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            return output.unexpected(error, **shown)
        hint = "look at where standard output and error go, and at the disk behind it"
        failed = GangwayError(f"cannot write what was found: {error.strerror}", hint=hint)
        return output.failure(failed, as_json=False, verbose=shown["verbose"])
    except Exception as error:  # the last resort: one line, never a traceback
        return output.unexpected(error, **shown)
    return 0


def _local(error: OSError) -> GangwayError:
    """What this machine itself refuses about a file of its own."""
    failed = GangwayError(
        f"{error.filename} cannot be used: {error.strerror}",
        hint="look at its owner and mode, at each folder above it, and at the disk",
        code="local-file",
    )
    failed.__cause__ = error
    return failed
