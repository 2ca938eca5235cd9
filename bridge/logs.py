"""Structured logs: one JSON line an event, on stderr, with the request's id.

Never a key, never a whole account. Nothing ever fails or waits because of its line: one that a full
disk or a pipe that nobody reads does not take is left out, and the next one tells how many were.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from bridge.lean import without

with without("rich"), without("better_exceptions"):
    import structlog

_least = 20
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_SECRET_NAMES = re.compile(r"key$|secret|password|token|authorization|cookie", re.IGNORECASE)
_KEY = re.compile(r"gwk_[A-Za-z0-9_-]{8,}")
_ACCOUNT = re.compile(r"\b(D?[UFI]\d{3})\d+(\d{2})\b")
_SHORTEST_HIDDEN = len("U123456")
"""Nothing shorter is an account or a key; most texts of an order are."""


def mask(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hides the values of secret names, and the middle of account numbers."""
    for name, value in event.items():
        if _is_secret(name):
            event[name] = "***"
        elif isinstance(value, str):
            event[name] = hidden(value)
    return event


def audit(entry: dict[str, Any]) -> None:
    """One entry of the audit log as one line, whatever the level of the log is."""
    event = {"event": "audit", "level": "info", **_masked(entry)}
    event["timestamp"] = event.pop("at")
    _write(_json(event))


def line(level: str, event: str, **members: Any) -> None:
    """An event whose members are known to hold no secret, for a quarter of what a logger takes."""
    if LEVELS[level] >= _least:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        _write(_json({**members, "level": level, "timestamp": now, "event": event}))


class Output:
    """Lines to a descriptor. A pipe's is set not to block: whoever reads it may stand still."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lost = 0
        self._within_a_line = False
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
            os.set_blocking(descriptor, False)

    def write(self, text: str) -> None:
        """One line, if it can be written now; never raises."""
        if self._lost:
            lost = {"event": "log-lines-lost", "level": "warning", "count": self._lost}
            text = f"{_json(lost)}\n{text}"
        if self._within_a_line:
            text = f"\n{text}"
        if self._put(f"{text}\n".encode()):
            self._lost, self._within_a_line = 0, False
        else:
            self._lost += 1

    def _put(self, data: bytes) -> bool:
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
                self._within_a_line = True
        except OSError:
            return False
        return True


_output: Output | None = None


def _write(text: str) -> None:
    if _output is not None:
        _output.write(text)
    else:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


class _Written:
    """What structlog takes for a logger."""

    def msg(self, message: str) -> None:
        """One line."""
        _write(message)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: "***" if _is_secret(name) else _masked(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(each) for each in value]
    return hidden(value) if isinstance(value, str) else value


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _SECRET_NAMES.search(name) is not None


def hidden(text: str) -> str:
    """A text without what looks like an API key, and without the middle of account numbers."""
    if len(text) < _SHORTEST_HIDDEN:
        return text
    return _ACCOUNT.sub(r"\1***\2", str(without_keys(text)))


def without_keys(value: Any) -> Any:
    """A text, or what holds texts, without what looks like one of the bridge's API keys."""
    if isinstance(value, dict):
        return {without_keys(name): without_keys(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_keys(each) for each in value]
    return _KEY.sub("gwk_***", value) if isinstance(value, str) and "gwk_" in value else value


def _json(event: dict[str, Any], **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


class _ToStructlog(logging.Handler):
    """What libraries log through the standard library, in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger(record.name).log(
            record.levelno, record.getMessage(), exc_info=record.exc_info
        )


def configure(level: str) -> None:
    """Sets logging up for the process; call it once, before anything logs."""
    global _least, _output
    number = _least = LEVELS[level]
    own = sys.__stderr__
    _output = Output(own.fileno()) if own is not None and sys.stderr is own else None
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            mask,
            structlog.processors.JSONRenderer(serializer=_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _Written(),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(number, 30), handlers=[_ToStructlog()], force=True)
