"""The stream to a host's program: requests out, events in, and what its silence means."""

from __future__ import annotations

import contextlib
import re
import time
from typing import IO, TYPE_CHECKING, Protocol, TypeVar

from infrastructure.apply import bundle
from infrastructure.apply.protocol import encoding, events, requests
from infrastructure.errors import (
    DeployFailed,
    DeployLocked,
    GangwayError,
    HostUnreachable,
    Interrupted,
)
from infrastructure.health.explain import KILLED, explaining

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infrastructure.config import Target
    from infrastructure.transport import Program, Transport

SILENCE = 90.0
"""Seconds without an answer (or, during a deploy, a heartbeat) until the host counts as lost."""
ANSWER_WITHIN = 300.0
"""Seconds until a question is answered, whatever else is told meanwhile."""
WORK_WITHIN = 7200.0
"""Seconds that work on the host may take beside the waits that the request allows: pulling and
building on a small machine."""
HELLO = encoding.encode(events.Hello())
LOGIN_PRINTS = 200
"""Lines that a login script may print before our program speaks."""
PIECE = 131_072
"""Bytes that are sent between two reports of how far an upload is."""

Of = TypeVar("Of", bound=events.Event)


class Listener(Protocol):
    """Shows events to a person."""

    def event(self, event: events.Event) -> None:
        """One event; those that are not for people are passed over."""


class Exchange:
    """A host's program for the length of one command."""

    def __init__(self, transport: Transport, target: Target, listener: Listener) -> None:
        self.name = transport.name
        self.listener = listener
        self._target = target
        sandbox = target.stack.runtime == "sandbox"
        command = bundle.local_command() if sandbox else bundle.command(sudo=target.stack.host.sudo)
        self._program: Program = transport.start(command)
        self._events = self._read()
        self._greeted = False
        self._printed: list[bytes] = []
        self._unsent = b"" if sandbox else bundle.program()

    def close(self) -> None:
        """Ends the program on the host."""
        with contextlib.suppress(GangwayError):
            self.send(requests.CloseRequest())
        self._program.close_input()

    # --- out ----------------------------------------------------------------------------------
    def send(self, request: requests.Request) -> None:
        """Sends a request; the first one takes the program itself along."""
        data, self._unsent = self._unsent + encoding.encode(request), b""
        self._write(data)

    def pour(self, what: str, source: IO[bytes], size: int) -> None:
        """Sends bytes piece by piece, and tells after each how far it is."""
        sent = 0
        while piece := source.read(PIECE):
            self._write(piece)
            sent += len(piece)
            self.listener.event(events.Upload(what, sent, size))

    def cancel(self) -> None:
        """Asks the host to end what goes on in good order; after Ctrl-C, too."""
        self.send(requests.CancelRequest())
        self._events = self._read()  # an interrupt has ended the one that was being read

    def _write(self, data: bytes) -> None:
        try:
            self._program.write(data)
        except HostUnreachable:
            with contextlib.suppress(HostUnreachable):
                self._last_words()
            if self._program.wait(2) >= 0:  # it ended, the connection stands
                raise self._ended() from None
            raise

    def _last_words(self) -> None:
        """Raises what the program said before it ended, such as who holds the lock."""
        for event in self._events:
            self._raise(event)

    # --- in -----------------------------------------------------------------------------------
    def ask(self, answer: type[Of], request: requests.Request) -> Of:
        """Sends a request and waits for its answer; other events go to the listener."""
        self.send(request)
        return self.until(answer)

    def until(
        self,
        answer: type[Of],
        within: float | None = ANSWER_WITHIN,
        take: Callable[[events.Event], bool] = lambda _: False,
    ) -> Of:
        """The answer; what else is told meanwhile goes to `take`, else to the listener.

        A host that tells and tells, but does not answer `within` so many seconds, is given up.
        """
        until = None if within is None else time.monotonic() + within
        for event in self._events:
            if until is not None and time.monotonic() > until:
                raise HostUnreachable(
                    f"{self.name} gave no answer within {within:.0f} seconds",
                    hint="./deploy.py status shows the outcome; doctor looks at the host",
                    code="no-answer",
                )
            self._raise(event)
            if isinstance(event, answer):
                return event
            if not take(event):
                self.listener.event(event)
        raise self._ended()

    def each(self, kind: type[Of]) -> Iterator[Of]:
        """Every event of a kind until it is over."""
        for event in self._events:
            self._raise(event)
            if isinstance(event, kind):
                yield event
            elif isinstance(event, events.Ended):
                return
            else:
                self.listener.event(event)

    def _raise(self, event: events.Event) -> None:
        if isinstance(event, events.Failed):
            told = failure(event, self._target)
            told.trace = event.trace
            raise told

    def _read(self) -> Iterator[events.Event]:
        """The events; what a login script prints before our program speaks is passed over."""
        try:
            for line in self._program.lines(SILENCE):
                if self._greeted:
                    yield decode(line, self.name)
                elif line.endswith(HELLO):  # perhaps behind a text without an end of its own
                    self._greeted = True
                else:
                    self._printed.append(line)
                    if len(self._printed) > LOGIN_PRINTS:
                        raise something_else(self._printed[0], self.name)
        except HostUnreachable:
            if self._printed and not self._greeted:
                raise something_else(self._printed[0], self.name) from None
            raise

    def _ended(self) -> GangwayError:
        """The program ended without an answer: why, as far as its errors tell."""
        code, errors = self._program.wait(5), self._program.errors().decode(errors="replace")
        if self._printed and not self._greeted and not errors.strip():
            return something_else(self._printed[0], self.name)
        return unanswered(self.name, code, errors)


def decode(line: bytes, name: str) -> events.Event:
    """One event of the host `name`; GangwayError (`protocol`) for anything else."""
    shown = repr(line[:80].decode(errors="replace"))
    try:
        return encoding.event_of(line)
    except encoding.Misshapen as wrong:
        raise GangwayError(
            f"{name} answers what no program of ours says: {wrong}: {shown}",
            hint="is it the machine that you mean? ./deploy.py doctor looks at the way to it",
            code="protocol",
        ) from None
    except (ValueError, RecursionError):
        raise something_else(line, name) from None


def something_else(line: bytes, name: str) -> GangwayError:
    """What is no program of ours has answered."""
    return GangwayError(
        f"{name} answers something else: {line[:80].decode(errors='replace')!r}",
        hint="does a login script print text for commands, too?",
        code="protocol",
    )


PLACES = {"memory-short": ("profile",), "name-taken": ("folder",)}
"""Where a stack that does not fit beside others says what it wants."""


def _holder(message: str) -> str:
    return message.partition(" already in use by ")[2] or "something else"


def failure(event: events.Failed, target: Target) -> GangwayError:
    """A `failed` event as the error that it is for a person."""
    message, hint, details = event.message, event.hint, event.details
    taken = taken_port(target, f"{message}\n{details}")
    if taken:
        port, key = taken
        return DeployFailed(
            f"port {port} is taken by {_holder(message)}" + _afterwards(event),
            target.place(*key, key=True),
            f"choose another with {'.'.join(key)}, or end what listens there"
            f" ({'ss -ltnp shows it' if target.local else 'ss -ltnp on the host shows it'})",
            "port-taken",
            details,
            restored=event.restored,
        )
    if event.code in PLACES:
        place = target.place(*PLACES[event.code], key=True)
        return DeployFailed(message, place, hint, event.code, details)
    if event.code == "locked":
        return DeployLocked(message, hint=hint)
    if event.code == "interrupted":
        return Interrupted(message + _afterwards(event), hint=hint)
    return DeployFailed(
        message + _explained(event) + _afterwards(event),
        hint=hint or "./deploy.py doctor looks at the host and at what runs there",
        details=details,
        code=event.code,
        restored=event.restored,
    )


def _explained(event: events.Failed) -> str:
    """The line of the log that says why something ended or could not be built.

    Only here, where a person reads it: the host's own message also goes to alert addresses.
    """
    if not event.code.endswith("-ended") and event.code != "build-failed":
        return ""
    line = "" if f"exit code {KILLED}" in event.message else explaining(event.details)
    return f": {line}" if line else ""


def _afterwards(event: events.Failed) -> str:
    return "; the previous release serves again" if event.restored else ""


def taken_port(target: Target, text: str) -> tuple[int, tuple[str, ...]] | None:
    """The port of ours that something else holds, by the engine's or a service's own words."""
    stack = target.stack
    ours = {
        stack.bridge.port: ("bridge", "port"),
        stack.caddy.http_port: ("caddy", "http_port"),
        stack.caddy.https_port: ("caddy", "https_port"),
    }
    if stack.runtime == "sandbox":
        ours |= {port: ("simulated", name) for name, port in stack.simulated.model_dump().items()}
    elif stack.gateway.publish_api:
        ours[int(stack.gateway.publish_api.rpartition(":")[2])] = ("gateway", "publish_api")
    for line in text.lower().splitlines():
        if "already in use" in line or "already allocated" in line:
            for number in re.findall(r"(?::|', )(\d{2,5})\b", line):
                if int(number) in ours:
                    return int(number), ours[int(number)]
    return None


def unanswered(name: str, code: int, errors: str) -> GangwayError:
    """Why the program on the host gave no answer."""
    lines = [line for line in errors.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else f"exit status {code}"
    if "sudo" in last:
        return DeployFailed(
            f"{name} does not allow sudo without a password: {last}",
            hint="allow it for the login, log in as root, or set host.sudo: false",
            code="sudo-denied",
        )
    if "python3" in last and ("not found" in last or code == 127):
        return DeployFailed(
            f"there is no python3 on {name}",
            hint="./deploy.py prepare makes a bare Debian or Ubuntu machine ready",
            code="python-missing",
        )
    return DeployFailed(
        f"the program on {name} ended without an answer: {last}",
        hint="./deploy.py status shows what runs; then the same command again",
        details=errors if len(lines) > 1 else "",
        code="host-program-ended",
    )
