"""Requests in, events out (`apply.protocol`). Runs on the host: standard library, Python 3.9."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infrastructure.apply.host.store import Store
from infrastructure.apply.host.wire import PATIENCE, Cancelled, Wire
from infrastructure.apply.protocol import documents, encoding, events, requests
from infrastructure.health import login, probes
from infrastructure.runtime import choose
from infrastructure.runtime.base import HostFailure
from infrastructure.runtime.containers import leftovers, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from infrastructure.apply.host.operate import Operator
    from infrastructure.runtime.base import Container, Runtime

    Answer = events.Event | None

BIGGEST_DIFF = 65_536
PIECE = 1_048_576
LIVELY = ("running", "restarting")
STARTING = (
    *(requests.ApplyRequest, requests.VerifyRequest, requests.RestartRequest),
    *(requests.RollBackRequest, requests.RestoreRequest),
)
"""What lets services write below `data/`, or puts another journal there."""
LAST = (events.Done, events.Ended, events.Failed)
"""After these nothing goes on: the lock is free before the client hears of it."""


class Program:
    """One client's requests about one stack: of each, the method of its name."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._unfinished: HostFailure | None = None
        """What keeps a restore from its end, for whoever holds the lock (`backup.complete`)."""
        self._store = Store("/nonexistent")
        self._chosen: Runtime | None = None
        self._found: list[Container] = []
        self._project = self._by = ""

    @property
    def _runtime(self) -> Runtime:
        """The stack's; of a client that opens none, one without anything in it."""
        if self._chosen is None:
            self._chosen = choose("compose", Path("/nonexistent"), "none", ())
        return self._chosen

    def serve(self) -> None:
        """Answers requests until the client closes."""
        self._wire.beat()
        while request := self._wire.receive():
            if isinstance(request, requests.CloseRequest):
                return
            answer = self._answer(request)
            if isinstance(answer, LAST) and not getattr(request, "hold", False):
                self._store.unlock()
            if answer is not None:
                self._wire.emit(answer)
                if isinstance(request, requests.OpenRequest):
                    return

    def _answer(self, request: requests.Request) -> Answer:
        operation: Callable[[Any], Answer] = getattr(self, f"_{encoding.name_of(type(request))}")
        try:
            if self._unfinished is not None and isinstance(request, STARTING):
                raise self._unfinished
            return operation(request)
        except Exception as error:  # also of a bug of ours: still an answer, never silence
            return events.Failed(**HostFailure.of(error).as_event())

    # --- requests -----------------------------------------------------------------------------
    def _open(self, request: requests.OpenRequest) -> None:
        self._store, self._project = Store(request.base), request.project
        self._by = request.by
        inherited = (self._locked(request),) if request.lock else ()
        self._chosen = choose(request.runtime, Path(request.base), request.project, inherited)
        self._found = self._runtime.containers()

    def _locked(self, request: requests.OpenRequest) -> int:
        def waiting(holder: str) -> None:
            self._wire.emit(events.Step(f"waiting for another deploy: {holder}"))

        gone = self._wire.gone.is_set
        descriptor = self._store.lock(request.by, request.lock_wait, waiting, gone)
        self._wire.patience = PATIENCE
        if self._store.scratches():
            from infrastructure.apply.host import backup

            self._unfinished = backup.complete(self._store, self._wire)
        return descriptor

    def _observe(self, request: requests.ObserveRequest) -> Answer:
        """What is there, and the text of what will differ."""
        current, found = self._store.current(), serving(self._found)
        wanted = request.verify
        same = wanted is not None and current == request.release and _as_wanted(found, wanted)
        same = same and self._unfinished is None
        self._wire.emit(
            events.Observed(
                time=time.time(),
                logins=self._keeping(request.sessions),
                release=current,
                files=self._files(current, request.files, as_listed=current == request.release),
                services={
                    name: documents.ServiceState(**one.as_json()) for name, one in found.items()
                },
                has=self._store.has(request.release),
                pending=self._store.pending(),
                verifying=same,
            )
        )
        return self._verify(wanted) if wanted is not None and same else None

    def _files(
        self, current: str | None, desired: dict[str, str], *, as_listed: bool
    ) -> dict[str, documents.FileState]:
        """Digests of the current release's files, and the text of those that will differ.

        `as_listed`: as its list has them. Else what lies there: the next release takes over what is
        the same, and nothing that somebody has changed on the host.
        """
        listed: dict[str, str] = self._store.manifest(current).get("files", {})
        if not as_listed:
            listed = self._store.digests(current or "", listed)
        found = {path: documents.FileState(digest) for path, digest in listed.items()}
        for path, file in found.items():
            if desired.get(path) == file.digest or path.startswith(("secrets/", "image/")):
                continue
            with contextlib.suppress(OSError):
                content = (self._store.release(current or "") / path).read_bytes()
                if len(content) <= BIGGEST_DIFF:
                    file.content = base64.b64encode(content).decode()
        return found

    def _lacking(self, request: requests.LackingRequest) -> Answer:
        missing = self._runtime.lacking(request.images)
        return events.Lacking(missing, os.uname().machine, self._runtime.layers())

    def _load(self, request: requests.LoadRequest) -> Answer:
        left = range(0, request.size, PIECE)
        pieces = (self._wire.read(min(PIECE, request.size - at)) for at in left)
        try:
            self._runtime.load(pieces)
        except HostFailure as failure:
            if failure.code != "image-unavailable" or not request.partial:
                raise
            return events.Loaded(refused=True)
        finally:
            for _ in pieces:  # what was not read would be taken for the next request
                pass
        return events.Loaded(refused=False)

    def _apply(self, request: requests.ApplyRequest) -> Answer:
        from infrastructure.apply.host.deploy import Deploy  # most commands do without it
        from infrastructure.apply.host.neighbours import require_room

        archive = self._wire.read(request.tar) if request.tar else b""
        self._wire.watch()
        self._store.require_here()
        if request.published:
            look = self._runtime.neighbours
            require_room(self._project, self._store.base, request, look)
        if archive:
            self._store.unpack(request.release, archive, request.owners, request.reused)
        if archive or not self._store.noted(request.release):  # a power cut came between the two
            self._store.note(request)
        self._store.folders(request.folders)
        deploy = Deploy(self._store, self._runtime, self._wire, request)
        with _signals(self._wire):
            return deploy.run()

    def _verify(self, request: requests.VerifyRequest) -> Answer:
        """Nothing to change: only whether it is healthy; completes a deploy that was killed."""
        from infrastructure.apply.host.health_gate import Gate, WaitingForPerson

        self._wire.watch()
        release = self._store.current()
        if request.afresh:
            self._free_held(request.checks)
        key = self._store.bridge_key
        gate = Gate(
            *(self._runtime, self._wire, request.checks, request.wait),
            key=key,
            stretch=request.stretch,
        )
        try:
            gate.run(serving(self._found))
            if self._store.pending() or leftovers(self._found):
                self._complete()
            self._wire.attempt("it is not in the history", lambda: self._proven(request.checks))
        except WaitingForPerson as waiting:
            return events.Done(
                *("waiting-2fa", release, False, False, 0), told=waiting.told, hint=waiting.hint
            )
        except Cancelled:
            raise HostFailure("interrupted", "interrupted; nothing was changed") from None
        return events.Done(*("healthy", release, True, False, 0), workers=self._workers_of(release))

    def _proven(self, checks: documents.Checks) -> None:
        """Records the release as healthy when that was not known: `rollback` goes back to it."""
        release = self._store.current()
        known = self._store.noted(release or "").get("checks", {})
        whole = all(name in checks and (checks[name] or not one) for name, one in known.items())
        if release is None or not known or not whole or self._store.proven(but=None) == release:
            return
        from infrastructure.apply.host.deploy import pin

        pin(self._store, self._runtime, release)
        entry = {"command": "up", "release": release, "result": "healthy", "by": self._by}
        self._store.record(**entry, whole=True)

    def _complete(self) -> None:
        """It serves: what a deploy that was killed has left beside it goes."""
        from infrastructure.apply.host.deploy import discard

        def tidy() -> None:
            discard(self._runtime, self._wire, leftovers(self._runtime.containers()))
            self._store.sweep()
            self._store.end()

        self._wire.attempt("not all that a deploy has left is tidied up", tidy)

    def _workers_of(self, release: str | None) -> dict[str, str]:
        """Their keys are put in order; those that do not run as they should, and why."""
        from infrastructure.apply.host.workers import Workers, of_release

        note = self._store.noted(release or "")
        port = note.get("checks", {}).get("bridge", {}).get("port")
        found = Workers(self._store, self._runtime, self._wire, of_release(note), port)
        return {**found.tidy(), **found.ailing()}

    def _status(self, request: requests.StatusRequest) -> Answer:
        found = serving(self._runtime.containers())
        bridge, key = None, self._store.bridge_key()
        caddy: list[str | None] = []
        asked = (caddy, found.get("caddy"), request.caddy)
        beside = threading.Thread(target=_ask_caddy, args=asked, daemon=True)
        beside.start()
        if "bridge" in found and found["bridge"].running:
            address, port = probes.reach(found["bridge"], request.bridge_port)
            _, bridge = probes.bridge(address, port, "/health", key)
        logins = self._logins(found.get("gateway"), request.sessions)
        own = next((one for one in logins if one["session"] == request.session), logins[0])
        beside.join()
        return events.Status(own, logins, bridge, caddy[0] if caddy else "it cannot be asked")

    def _logins(
        self, gateway: Container | None, sessions: Sequence[str]
    ) -> list[documents.LoginState]:
        """The `login` object of each session; the health check's answer outranks the rest."""
        facts = self._runtime.login_facts() if gateway else {}
        log: list[str] = []
        if gateway is not None and gateway.running and not facts:
            log = self._runtime.log(gateway, 2000).splitlines()
        found = login.of_container(gateway, facts, log, sessions)
        return [encoding.read(documents.LoginState, one.shown()) for one in found]

    def _keeping(self, sessions: Sequence[str]) -> list[documents.Keeping]:
        """What a plan wants to know of the logins; nothing of a gateway that does not run."""
        gateway = serving(self._found).get("gateway")
        if gateway is None or not gateway.running or not sessions:
            return []
        found = login.of_container(gateway, self._runtime.login_facts(), (), sessions)
        return [
            {
                "session": one.session or "",
                "state": one.state,
                "since": one.since,
                "parks": one.parks,
            }
            for one in found
        ]

    def _free_held(self, checks: documents.Checks) -> None:
        """A person who asks for `up` has acted: a gateway whose login is held begins afresh."""
        gateway = serving(self._found).get("gateway")
        if gateway is None or "gateway" not in checks:
            return
        facts, sessions = self._runtime.login_facts(), checks["gateway"].get("sessions", ())
        found = login.of_container(gateway, facts, (), sessions) if gateway.running else []
        held = next((one for one in found if one.held), None)
        if held is None:
            return
        self._wire.emit(events.Step(f"{held.told}: the gateway's container begins afresh"))
        self._runtime.begin_afresh(gateway, cold=True)
        self._runtime.restart(gateway)
        self._found = self._runtime.containers()

    def _down(self, request: requests.DownRequest) -> Answer:
        release = self._store.current()
        gateway = serving(self._runtime.containers()).get("gateway")
        if gateway is not None:
            from infrastructure.apply.host import parking

            ends: documents.Check = {"ends": self._noted_gateway().get("ends", request.ends)}
            self._wire.attempt(
                "the gateway is only stopped",
                lambda: parking.end(self._runtime, self._wire, gateway, ends, keep=False),
            )
        self._wire.emit(events.Step("stopping every service"))
        self._runtime.down()
        self._wire.attempt("a deploy stays marked as under way", self._store.end)
        if release is not None:
            entry = {"command": "down", "release": release, "result": "down", "by": request.by}
            self._wire.attempt("it is not in the history", lambda: self._store.record(**entry))
        return events.Ended(release)

    def _noted_gateway(self) -> documents.Check:
        """The gateway's check as it was deployed: stack.yaml may say another mode since."""
        checks = self._store.noted(self._store.current() or "").get("checks", {})
        found: documents.Check = checks.get("gateway", {})
        return found

    def _history(self, _: requests.HistoryRequest) -> Answer:
        return events.History(self._store.ledger(), self._store.current())

    def _login_facts(self, _: requests.LoginFactsRequest) -> Answer:
        return events.LoginFacts(self._runtime.login_facts())

    def _controller(self, request: requests.ControllerRequest) -> Answer:
        return events.Controller(self._runtime.controller(request.image))

    def _facts(self, request: requests.FactsRequest) -> Answer:
        from infrastructure.apply.host import facts

        return facts.collect(self._store, self._runtime, request.checks)

    # --- an operator's ------------------------------------------------------------------------
    @property
    def _operator(self) -> Operator:
        from infrastructure.apply.host.operate import Operator

        return Operator(self._store, self._runtime, self._wire)

    def _restart(self, request: requests.RestartRequest) -> Answer:
        self._wire.watch()
        if request.service == "gateway" and (noted := self._noted_gateway()):
            request.checks["gateway"] = noted
            ports = [int(end.partition(" ")[0]) for end in noted.get("ends", {}).values()]
            request.command_ports = ports or request.command_ports
        with _signals(self._wire):
            return self._operator.restart(request)

    def _logs(self, request: requests.LogsRequest) -> Answer:
        self._operator.logs(request)
        return events.Ended()

    def _going_back(self, request: requests.GoingBackRequest) -> Answer:
        return self._operator.going_back(request.release)

    def _roll_back(self, request: requests.RollBackRequest) -> Answer:
        self._store.require_here()
        with _signals(self._wire):
            return self._operator.roll_back(request)

    def _newer(self, request: requests.NewerRequest) -> Answer:
        return self._operator.newer(request.images)

    def _fetch(self, request: requests.FetchRequest) -> Answer:
        self._wire.watch()
        return self._operator.fetch(request.image, request.digest)

    def _ask_bridge(self, request: requests.AskBridgeRequest) -> Answer:
        return self._operator.ask_bridge(request)

    def _address(self, request: requests.AddressRequest) -> Answer:
        return events.Address(self._operator.address(request.service))

    def _type_code(self, request: requests.TypeCodeRequest) -> Answer:
        self._wire.watch()
        self._operator.type_code(request)
        return self._status(request.asked)

    def _picture(self, _: requests.PictureRequest) -> Answer:
        return events.Picture(base64.b64encode(self._operator.picture()).decode())

    def _screen(self, request: requests.ScreenRequest) -> Answer:
        with _signals(self._wire):
            self._operator.screen(request.password)
        return events.Ended()

    def _backup(self, request: requests.BackupRequest) -> Answer:
        from infrastructure.apply.host import backup

        self._wire.watch()
        return backup.take(self._store, self._wire, request)

    def _restore(self, request: requests.RestoreRequest) -> Answer:
        from infrastructure.apply.host import backup

        if request.repository is not None:
            from infrastructure.apply.host import scheduled

            self._wire.watch()
            scheduled.require_restic(self._wire)
        request.running = bool(self._runtime.containers())
        return backup.put_back(self._store, self._wire, request)

    def _keep_backups(self, request: requests.KeepBackupsRequest) -> Answer:
        from infrastructure.apply.host import scheduled

        self._wire.watch()
        return scheduled.keep_backups(self._store, self._wire, request)

    def _end_backups(self, _: requests.EndBackupsRequest) -> Answer:
        from infrastructure.apply.host import scheduled

        known = scheduled.facts(self._store.base)
        return events.Scheduled(scheduled.end_backups(self._store), known)

    def _leave(self, request: requests.LeaveRequest) -> Answer:
        self._store.leave(request.to)
        return events.Left(request.to)

    def _watch_images(self, request: requests.WatchImagesRequest) -> Answer:
        from infrastructure.apply.host import scheduled

        return scheduled.watch_images(self._store, request)

    # --- the kill switch: without `open`, neither engine nor lock holds it up -------------------
    def _halt(self, request: requests.HaltRequest) -> Answer:
        from infrastructure.apply.host import halt

        return halt.halt(Store(request.base), request)

    def _resume(self, request: requests.ResumeRequest) -> Answer:
        from infrastructure.apply.host import halt

        return halt.resume(Store(request.base), request)

    def _cancel_all(self, request: requests.CancelAllRequest) -> Answer:
        from infrastructure.apply.host import halt

        base, kind, project = Path(request.base), request.runtime, request.project
        return halt.cancel_all(
            Store(request.base), request, lambda: choose(kind, base, project, ())
        )


def _ask_caddy(
    answer: list[str | None], container: Container | None, check: documents.Check | None
) -> None:
    """Adds why nobody outside reaches the bridge, however well it is; "" when they do."""
    if container is None or not container.running or check is None:
        answer.append(None)
        return
    passed, reason = probes.caddy(check["address"], check["port"], check["name"])
    waits = probes.waits_for_certificate(reason, public=check.get("public", False))
    answer.append("" if passed or waits else reason)


def _as_wanted(found: dict[str, Container], wanted: requests.VerifyRequest) -> bool:
    """Whether the same services run from the same definitions: a plan would change nothing."""
    running = {name: one.hash for name, one in found.items() if one.state in LIVELY}
    return running == wanted.hashes and len(found) == len(running)


@contextlib.contextmanager
def _signals(wire: Wire) -> Any:
    """A signal asks for an orderly end; a lost terminal asks for nothing."""
    signal.signal(signal.SIGTERM, wire.cancel)
    signal.signal(signal.SIGINT, wire.cancel)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield


def main() -> None:
    """Serves one client on the standard streams, in a session of its own."""
    with contextlib.suppress(OSError):
        os.setsid()
    os.umask(0o077)
    wire = Wire(sys.stdin.buffer, sys.stdout.buffer)
    try:
        wire.emit(events.Hello())
        Program(wire).serve()
    finally:
        # A thread may still wait for input, which keeps Python from an orderly end.
        sys.stdout.flush()
        os._exit(0)
