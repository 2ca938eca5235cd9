"""The client's side of one command on a host: requests out, events in.

One connection, one program: `begin` lets it look around (and lock, for a deploy), `observe`
compares, `apply` hands the release over on the same stream. Events go to a listener.
"""

from __future__ import annotations

import base64
import contextlib
import getpass
import io
import json
import platform
import re
import time
from dataclasses import dataclass, fields
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from infrastructure.apply import answers, bundle
from infrastructure.apply.bundle import owners, pack, reused
from infrastructure.apply.checks import checks
from infrastructure.errors import (
    DeployFailed,
    DeployLocked,
    GangwayError,
    HostUnreachable,
    Interrupted,
    WaitingForPerson,
)
from infrastructure.plan.compute import Observed, ObservedFile, ObservedService

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from infrastructure.config import Target
    from infrastructure.plan.compute import Plan
    from infrastructure.render.model import Release
    from infrastructure.transport import Program, Transport

SILENCE = 90.0
"""Seconds without an answer (or, during a deploy, a heartbeat) until the host counts as lost."""


PIECE = 131_072
"""Bytes that are sent between two reports of how far an upload is."""

_OUTCOME = ("result", "release", "healthy", "restored", "seconds")
HEALTHY_WITHIN = 300.0
"""Default seconds until healthy, the wait for a person not counted (`up --wait`)."""


class Listener(Protocol):
    """Shows events of the host to a person."""

    def event(self, event: dict[str, Any]) -> None:
        """One event, as `apply.host.main` lists them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an `up` ended well: healthy, or with a gateway that waits for a person."""

    release: str
    healthy: bool
    restored: bool
    seconds: float


class Session:
    """A host's program for the length of one command."""

    def __init__(self, transport: Transport, target: Target, listener: Listener) -> None:
        self._name = transport.name
        self._target = target
        self._listener = listener
        sandbox = target.stack.runtime == "sandbox"
        command = bundle.local_command() if sandbox else bundle.command(sudo=target.stack.host.sudo)
        self._program: Program = transport.start(command)
        self._events = self._read()
        self._unsent = b"" if sandbox else bundle.program()
        self.has_release = False
        self.last: dict[str, Any] = {}
        self.pending: dict[str, Any] | None = None
        self._known: Mapping[str, ObservedFile] = {}
        self._verifying = False
        self._work = answers.WORK_WITHIN

    # --- requests -----------------------------------------------------------------------------
    def begin(self, *, lock: bool = False) -> None:
        """Sends the program on its way; it looks at the host while the caller renders.

        With `lock` nobody else may deploy until the session ends.
        """
        self._send(
            op="open",
            base=str(self._target.base),
            project=self._target.project,
            runtime=self._target.stack.runtime,
            lock=lock,
            by=person(),
        )

    def observe(self, release: Release | None = None, *, verify: float | None = None) -> Observed:
        """What is on the host now, compared with a release.

        `verify`: when nothing differs, the host goes on at once to see whether all is healthy,
        within so many seconds; `verified` waits for that.

        Raises:
            DeployLocked: another deploy holds the lock.
            DeployFailed: the host has no Docker, no Compose v2, or does not let us use them.
        """
        if verify is not None:
            self._allow(verify)
        wanted = {} if release is None else {item.path: item.digest for item in release.files}
        answer = self.ask(
            "observed",
            op="observe",
            release="" if release is None else release.id,
            files=wanted,
            verify=None if release is None or verify is None else self._expected(release, verify),
        )
        self._verifying = answer["verifying"]
        self.has_release = answer["has"]
        self.pending = answer["pending"]
        try:
            observed = _observed(answer)
        except (ValueError, TypeError) as error:
            raise GangwayError(
                f"{self._name} answers what no program of ours says: {error}", code="protocol"
            ) from error
        self._known = observed.files
        return observed

    def open(self, release: Release | None = None, *, lock: bool = False) -> Observed:
        """`begin` and `observe`."""
        self.begin(lock=lock)
        return self.observe(release)

    def apply(
        self,
        plan: Plan,
        release: Release,
        *,
        fresh: bool = False,
        wait: float | None = None,
        gate: dict[str, dict[str, Any]] | None = None,
        command: str = "up",
    ) -> Outcome:
        """Carries the plan out and waits until the stack is healthy.

        `fresh`: what is built is built without cached layers. `gate`: what must be healthy at the
        end (`apply.checks`) instead of everything. `command`: what the ledger calls it.

        Raises:
            DeployFailed: it did not become healthy; `restored` says whether the old one serves.
            WaitingForPerson: the second factor was not approved in time; nothing was torn down.
        """
        if self.builds_here:
            self._ship_images(plan, release, fresh=fresh)
            fresh = False
        known = reused(release, self._known)
        archive = b"" if self.has_release else pack(release, known)
        request = {
            "op": "apply",
            "release": release.id,
            "tar": len(archive),
            "owners": owners(release),
            "reused": {} if self.has_release else known,
            "folders": [
                {"path": item.path, "uid": item.uid, "mode": item.mode} for item in release.folders
            ],
            "services": [
                {
                    "name": item.name,
                    "image": item.image,
                    "builds": item.builds,
                    "fresh": fresh and item.builds,
                }
                for item in release.services
            ],
            "changes": {
                change.service: change.action
                for change in plan.changes
                if change.action != "unchanged"
            },
            "checks": checks(self._target, [item.name for item in release.services]),
            "wait": wait or HEALTHY_WITHIN,
            "by": person(),
            "command": command,
        }
        if gate is not None:
            request["gate"] = gate
        self._send(**request)
        self._pour("the release", io.BytesIO(archive), len(archive))
        return self._outcome()

    def _ship_images(self, plan: Plan, release: Release, *, fresh: bool) -> None:
        """With `bridge.build: local`: builds here what the host lacks, and loads it there."""
        changed = {change.service for change in plan.changes if change.action != "unchanged"}
        built = [item for item in release.services if item.builds and item.name in changed]
        if built:
            from infrastructure.apply.shipping import Shipping

            Shipping(self, self._target, release, self._listener).ship(built, fresh=fresh)

    @property
    def builds_here(self) -> bool:
        """Whether images are built on this machine and shipped."""
        return (
            self._target.stack.bridge.build == "local" and self._target.stack.runtime != "sandbox"
        )

    def verified(
        self,
        release: Release,
        *,
        wait: float | None = None,
        gate: dict[str, dict[str, Any]] | None = None,
    ) -> Outcome:
        """Waits until what runs already is healthy, or what `gate` names of it; no changes."""
        if not self._verifying:
            expected = self._expected(release, wait)
            self._send(op="verify", **expected | ({} if gate is None else {"checks": gate}))
        return self._outcome()

    def _expected(self, release: Release, wait: float | None) -> dict[str, Any]:
        return {
            "hashes": {item.name: item.hash for item in release.services},
            "checks": checks(self._target, [item.name for item in release.services]),
            "wait": wait or HEALTHY_WITHIN,
            "afresh": True,
        }

    def status(self) -> dict[str, Any]:
        """`{"login", "logins": as in /health, "bridge": the bridge's /health or None}`."""
        return self.ask(
            "status",
            op="status",
            bridgePort=self._target.stack.bridge.port,
            sessions=list(self._target.stack.sessions),
            session=self._target.stack.session,
        )

    def login_facts(self) -> dict[str, str]:
        """What the gateway's container has written down of its logins, by session."""
        found: dict[str, str] = self.ask("login_facts", op="login_facts")["facts"]
        return found

    def controller(self, image: str) -> str | None:
        """What logs in within a gateway image, as the host tells; None: the image is not there."""
        found: str | None = self.ask("controller", op="controller", image=image)["controller"]
        return found

    def history(self) -> dict[str, Any]:
        """`{"entries": [oldest first], "current": release}`."""
        return self.ask("history", op="history")

    def down(self) -> str | None:
        """Stops and removes every service; the release that served."""
        self._send(op="down", by=person())
        release: str | None = self._until("done", answers.WORK_WITHIN).get("release")
        return release

    def close(self) -> None:
        """Ends the program on the host."""
        with contextlib.suppress(GangwayError):
            self._send(op="close")
        self._program.close_input()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Ends the program on the host."""
        self.close()

    # --- the stream ---------------------------------------------------------------------------
    def _send(self, **request: Any) -> None:
        if "wait" in request:  # work: what a person and the services may take comes on top
            self._allow(request["wait"])
        line = json.dumps(request, separators=(",", ":")).encode() + b"\n"
        data, self._unsent = self._unsent + line, b""
        self._write(data)

    def _allow(self, wait: float) -> None:
        """Sets how long work may take, with a person's approval; once more for the way back."""
        person_takes = self._target.stack.gateway.two_factor.wait * len(self._target.stack.sessions)
        self._work = answers.WORK_WITHIN + 2 * (wait + person_takes)

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
            if event["event"] == "failed":
                raise failure(event, self._target)

    def upload(
        self, what: str, source: IO[bytes], size: int, answer: str, **request: Any
    ) -> dict[str, Any]:
        """Sends a request, its `size` and so many bytes, and waits for its answer."""
        self._send(size=size, **request)
        self._pour(what, source, size)
        return self._until(answer, answers.WORK_WITHIN)

    def _pour(self, what: str, source: IO[bytes], size: int) -> None:
        """Sends bytes piece by piece, and tells after each how far it is."""
        sent = 0
        while piece := source.read(PIECE):
            self._write(piece)
            sent += len(piece)
            self._listener.event({"event": "upload", "what": what, "sent": sent, "total": size})

    def ask(self, answer: str, **request: Any) -> dict[str, Any]:
        """Sends a request and waits for its answer; other events go to the listener."""
        self._send(**request)
        return self._until(answer)

    def _until(self, answer: str, within: float | None = answers.ANSWER_WITHIN) -> dict[str, Any]:
        """The answer; what else is told meanwhile goes to the listener.

        A host that tells and tells, but does not answer `within` so many seconds, is given up.
        """
        until = None if within is None else time.monotonic() + within
        for event in self._events:
            if until is not None and time.monotonic() > until:
                raise HostUnreachable(
                    f"{self._name} gave no answer within {within:.0f} seconds",
                    hint="./deploy.py status shows the outcome; doctor looks at the host",
                    code="no-answer",
                )
            if event["event"] == "failed":
                raise failure(event, self._target)
            if event["event"] == answer:
                return event
            self._listener.event(event)
        raise self._ended()

    def _read(self) -> Iterator[dict[str, Any]]:
        for line in self._program.lines(SILENCE):
            yield answers.decode(line, self._name)

    def _outcome(self) -> Outcome:
        try:
            event = self._until("done", self._work)
        except KeyboardInterrupt:
            event = self._cancel()
        if missing := [name for name in _OUTCOME if name not in event]:
            raise GangwayError(
                f"{self._name} does not say how it ended: '{missing[0]}' is missing",
                hint="./deploy.py status shows what runs",
                code="protocol",
            )
        self.last = event
        if event["result"] == "waiting-2fa":
            told = event.get("told") or "waiting for 2FA"
            raise WaitingForPerson(
                f"the gateway is still {told}; nothing was torn down"
                if told.startswith("waiting")
                else f"{told}; nothing was torn down",
                hint=event.get("hint") or "then ./deploy.py up or status",
            )
        return Outcome(event["release"], event["healthy"], event["restored"], event["seconds"])

    def _cancel(self) -> dict[str, Any]:
        """Ctrl-C: the host is asked to stop in good order; a second one leaves it to itself."""
        self._listener.event({"event": "step", "text": "stopping; the host puts things in order"})
        self._events = self._read()  # the interrupt has ended the one that was being read
        self._send(op="cancel")
        event = self._until("done", self._work)
        if event.get("result") == "waiting-2fa":
            raise Interrupted("interrupted; the gateway still waits for 2FA, nothing was torn down")
        return event

    def _ended(self) -> GangwayError:
        """The program ended without an answer: why, as far as its errors tell."""
        code, errors = self._program.wait(5), self._program.errors().decode(errors="replace")
        return unanswered(self._name, code, errors)


def failure(event: dict[str, Any], target: Target) -> GangwayError:
    """A `failed` event as the error that it is for a person."""
    message, hint, details = event["message"], event["hint"], event["details"]
    taken = taken_port(target, f"{message}\n{details}")
    if taken:
        port, key = taken
        return DeployFailed(
            f"port {port} is taken by something else" + _afterwards(event),
            target.place(*key, key=True),
            f"choose another with {'.'.join(key)}, or end what listens there: ss -ltnp",
            "port-taken",
            details,
            restored=event["restored"],
        )
    if event["code"] == "locked":
        return DeployLocked(message, hint=hint)
    if event["code"] == "interrupted":
        return Interrupted(message + _afterwards(event))
    return DeployFailed(
        message + _afterwards(event),
        hint=hint,
        details=details,
        code=event["code"],
        restored=event["restored"],
    )


def _afterwards(event: dict[str, Any]) -> str:
    return "; the previous release serves again" if event["restored"] else ""


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
        hint="./deploy.py status shows what runs; up again completes what was begun",
        details=errors if len(lines) > 1 else "",
        code="host-program-ended",
    )


def _observed(answer: dict[str, Any]) -> Observed:
    files = {
        path: ObservedFile(
            item["digest"], base64.b64decode(item["content"]) if "content" in item else None
        )
        for path, item in answer["files"].items()
    }
    known = {item.name for item in fields(ObservedService)}
    services = {
        name: ObservedService(**{key: value for key, value in item.items() if key in known})
        for name, item in answer["services"].items()
    }
    return Observed(answer["release"], files, services)


def person() -> str:
    """Who works here, for the ledger."""
    with contextlib.suppress(OSError, KeyError):
        return f"{getpass.getuser()}@{platform.node()}"
    return platform.node()
