"""The one line of a log that says why a program ended. Runs on the host: Python 3.9."""

from __future__ import annotations

import re

LONGEST = 200
KILLED = 137
"""The exit code of what was ended by SIGKILL, as the kernel does when memory is full."""
_JAVA = re.compile(
    r"Unrecognized (?:VM )?option|Invalid \w+ heap size|Invalid maximum|Missing \+/- setting"
    r"|Could not reserve enough space|insufficient memory for the Java|Conflicting collector"
    r"|heap size set to a larger|Improperly specified VM option|Could not find or load main class"
    r"|Multiple garbage collectors selected|Too small \w+ heap|Unexpected \+/- setting"
    r"|stack size specified is too small|Invalid -X\w+ option|Could not find agent library"
    r"|VM option '\w+' is (?:exp|diag|dev|only)"
)
_JAVA_MEMORY = re.compile(r"Could not reserve enough space|insufficient memory for the Java")
_JAVA_START = "Error occurred during initialization of VM"
_JAVA_GAVE_UP = "Error: Could not create the Java Virtual Machine."
_RAISED = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)\b.*")
_FILE = re.compile(r'File "([^"]+)", line (\d+)')
_OURS = ("/bridge/", "/infrastructure/", "/simulator/")
_BUILD_STEP = re.compile(r"^#\d+ (?:[\d.]+ )?")
_FOLLOWS = re.compile(r"did not complete successfully|failed to solve|^-+$")
_ERROR = re.compile(r"\b(?:error|fatal|panic|failed)\b", re.IGNORECASE)


def explaining(log: str) -> str:
    """The explaining line, cut to 200 characters; empty for an empty log.

    Of Java what it refused, of Python the exception with the last file of ours, of a build the
    error of the step that failed; else the last line that speaks of an error, else the last one.
    """
    lines = [_BUILD_STEP.sub("", line.rstrip()) for line in log.splitlines()]
    lines = [line for line in lines if line.strip()]
    found = _of_java(lines) or _of_python(lines) or _of_errors(lines)
    return found[:LONGEST]


def short_of_memory(line: str) -> bool:
    """Whether Java says that the machine has not the memory that it was told to take."""
    return _JAVA_MEMORY.search(line) is not None


def of_java(line: str) -> bool:
    """Whether Java refused what it was started with."""
    return _JAVA.search(line) is not None


def _of_java(lines: list[str]) -> str:
    for line in reversed(lines):
        if _JAVA.search(line):
            return line.strip("# ")
    for at, line in enumerate(lines[1:]):
        if lines[at].endswith(_JAVA_START):
            return line.strip()
        if line.endswith(_JAVA_GAVE_UP):
            return lines[at].strip()
    return ""


def _of_python(lines: list[str]) -> str:
    """`SyntaxError: invalid syntax (bridge/orders/submit.py, line 12)`."""
    raised = [at for at, line in enumerate(lines) if _RAISED.fullmatch(line)]
    places = [
        (at, match[1], match[2]) for at, line in enumerate(lines) if (match := _FILE.search(line))
    ]
    if not raised or not any(at < raised[-1] for at, _, _ in places):
        return ""
    last = raised[-1]
    within = [(path, line) for at, path, line in places if at < last]
    ours = [one for one in within if any(folder in one[0] for folder in _OURS)] or within
    path, line = ours[-1]
    start = max((path.rfind(folder) for folder in _OURS), default=-1)
    return f"{lines[last]} ({path[start + 1 :] if start >= 0 else path}, line {line})"


def _of_errors(lines: list[str]) -> str:
    telling = [line for line in lines if _ERROR.search(line) and not _FOLLOWS.search(line)]
    return (telling or lines or [""])[-1].strip()
