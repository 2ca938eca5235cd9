"""Requests in, events out. Runs on the host: standard library, Python 3.9.

    open    {base, project, runtime, lock, by}         -> (nothing when all is well)
    observe {release, files, verify?}                  -> observed {verifying}; then as verify
    lacking {images}                                   -> lacking {images, architecture, layers}
    load    {size, partial}, then the bytes            -> loaded {refused}
    apply   {release, tar, changes, services, ...}     -> step, stage, log, waiting, ..., done
    verify  {checks, wait}                             -> stage, ..., done
    status  {bridgePort}                               -> status
    history {}                                         -> history
    controller {image}                                 -> controller
    login_facts {}                                     -> login_facts
    down    {by}                                       -> step, done
    restart {service, cold, commandPorts, checks, ...} -> step, stage, ..., done
    logs    {services, since, lines, follow}           -> line, ..., done
    going_back {release}                               -> going_back
    roll_back  {release, wait, by}                     -> step, stage, ..., done
    ask_bridge {method, path, body, seconds, ...}      -> ask_bridge
    screen  {password}                                 -> screen, done
    address {service}                                  -> address
    facts   {bridgePort, ...}                          -> facts
    close   {}

A request that fails is answered by `failed {code, message, hint, details, restored}`.
"""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infrastructure.apply.host.health_gate import Gate, WaitingForPerson, reach
from infrastructure.apply.host.store import Store
from infrastructure.apply.host.wire import Cancelled, Wire
from infrastructure.health import login, probes
from infrastructure.runtime.base import HostFailure, choose
from infrastructure.runtime.containers import leftovers, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from infrastructure.apply.host.operate import Operator
    from infrastructure.runtime.base import Container, Runtime

    Answer = tuple[str, dict[str, Any]]
    Operation = Callable[[dict[str, Any]], Answer]

BIGGEST_DIFF = 65_536
PIECE = 1_048_576
LIVELY = ("running", "restarting")


class Program:
    """One client's requests about one stack."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._store = Store("/nonexistent")
        self._runtime: Runtime = choose("compose", Path("/nonexistent"), "none", ())
        self._found: list[Container] = []

    def serve(self) -> None:
        """Answers requests until the client closes."""
        while (request := self._wire.receive()) is not None and request["op"] != "close":
            operation: Operation = getattr(self, f"_{request['op']}")
            try:
                answer, fields = operation(request)
            except HostFailure as failure:
                answer, fields = "failed", failure.as_event()
            except Exception as error:  # a bug of ours: still an answer, never silence
                import traceback

                text = f"unexpected {type(error).__name__}: {error}"
                unexpected = HostFailure("unexpected", text, "", traceback.format_exc())
                answer, fields = "failed", unexpected.as_event()
            if answer in ("done", "failed"):
                self._store.unlock()
            if answer:
                self._wire.emit(answer, **fields)
            if request["op"] == "open" and answer:
                return

    # --- requests -----------------------------------------------------------------------------
    def _open(self, request: dict[str, Any]) -> Answer:
        self._store = Store(request["base"])
        inherited: tuple[int, ...] = ()
        if request["lock"]:
            inherited = (self._store.lock(request["by"]),)
        base, project = Path(request["base"]), request["project"]
        self._runtime = choose(request["runtime"], base, project, inherited)
        self._found = self._runtime.containers()
        return "", {}

    def _observe(self, request: dict[str, Any]) -> Answer:
        """What is there, and the text of what will differ."""
        current, found = self._store.current(), serving(self._found)
        wanted: dict[str, Any] = request.get("verify") or {}
        same = current == request["release"] and _as_wanted(found, wanted)
        self._wire.emit(
            "observed",
            release=current,
            files=self._files(current, request["files"]),
            services={name: one.as_json() for name, one in found.items()},
            has=self._store.has(request["release"]),
            pending=self._store.pending(),
            verifying=same,
        )
        return self._verify(wanted) if same else ("", {})

    def _files(self, current: str | None, desired: dict[str, str]) -> dict[str, Any]:
        """Digests of the current release's files, and the text of those that will differ."""
        listed: dict[str, str] = self._store.manifest(current).get("files", {})
        found: dict[str, Any] = {}
        for path, digest in listed.items():
            found[path] = {"digest": digest}
            if desired.get(path) == digest or path.startswith(("secrets/", "image/")):
                continue
            with contextlib.suppress(OSError):
                content = (self._store.release(current or "") / path).read_bytes()
                if len(content) <= BIGGEST_DIFF:
                    found[path]["content"] = base64.b64encode(content).decode()
        return found

    def _lacking(self, request: dict[str, Any]) -> Answer:
        """Which images are not there, for which architecture they must be, which layers are."""
        return "lacking", {
            "images": self._runtime.lacking(request["images"]),
            "architecture": os.uname().machine,
            "layers": self._runtime.layers(),
        }

    def _load(self, request: dict[str, Any]) -> Answer:
        """An image that was built elsewhere; `partial`: without layers that should be here."""
        left = range(0, request["size"], PIECE)
        pieces = (self._wire.read(min(PIECE, request["size"] - at)) for at in left)
        try:
            self._runtime.load(pieces)
        except HostFailure as failure:
            if failure.code != "image-unavailable" or not request["partial"]:
                raise
            return "loaded", {"refused": True}
        finally:
            for _ in pieces:  # what was not read would be taken for the next request
                pass
        return "loaded", {"refused": False}

    def _apply(self, request: dict[str, Any]) -> Answer:
        from infrastructure.apply.host.deploy import Deploy  # most commands do without it

        archive = self._wire.read(request["tar"]) if request["tar"] else b""
        self._wire.watch()
        if archive:
            self._store.unpack(request["release"], archive, request["owners"], request["reused"])
            self._store.note(request["release"], request)
        self._store.folders(request["folders"])
        deploy = Deploy(self._store, self._runtime, self._wire, request)
        with _signals(self._wire):
            return "done", deploy.run()

    def _verify(self, request: dict[str, Any]) -> Answer:
        """Nothing to change: only whether it is healthy; completes a deploy that was killed."""
        self._wire.watch()
        outcome: dict[str, Any] = {
            "result": "healthy",
            "release": self._store.current(),
            "restored": False,
        }
        if request.get("afresh"):
            self._free_held(request["checks"])
        try:
            gate = Gate(
                self._runtime,
                self._wire,
                request["checks"],
                request["wait"],
                key=self._store.bridge_key,
            )
            gate.run(serving(self._found))
            if self._store.pending():
                self._runtime.remove(leftovers(self._runtime.containers()))
                self._store.end()
        except WaitingForPerson as waiting:
            outcome |= {"result": "waiting-2fa", "told": waiting.told, "hint": waiting.hint}
        except Cancelled:
            raise HostFailure("interrupted", "interrupted; nothing was changed") from None
        healthy = outcome["result"] == "healthy"
        return "done", {"healthy": healthy, "seconds": 0, **outcome}

    def _status(self, request: dict[str, Any]) -> Answer:
        found = serving(self._runtime.containers())
        bridge, key = None, self._store.bridge_key()
        if "bridge" in found and found["bridge"].running:
            address, port = reach(found["bridge"], request["bridgePort"])
            _, bridge = probes.bridge(address, port, "/health", key)
        logins = self._logins(found.get("gateway"), request.get("sessions", ()))
        served = request.get("session")
        own = next((one for one in logins if one["session"] == served), logins[0])
        return "status", {"bridge": bridge, "login": own, "logins": logins}

    def _logins(self, gateway: Container | None, sessions: Sequence[str]) -> list[dict[str, Any]]:
        """The `login` object of each session; the health check's answer outranks the rest."""
        facts = self._runtime.login_facts() if gateway else {}
        log: list[str] = []
        if gateway is not None and gateway.running and not facts:
            log = self._runtime.log(gateway, 2000).splitlines()
        return [one.shown() for one in login.of_container(gateway, facts, log, sessions)]

    def _free_held(self, checks: dict[str, dict[str, Any]]) -> None:
        """A person who asks for `up` has acted: a gateway whose login is held begins afresh."""
        gateway = serving(self._found).get("gateway")
        if gateway is None or "gateway" not in checks:
            return
        facts, sessions = self._runtime.login_facts(), checks["gateway"].get("sessions", ())
        found = login.of_container(gateway, facts, (), sessions) if gateway.running else []
        held = next((one for one in found if one.held), None)
        if held is None:
            return
        self._wire.emit("step", text=f"{held.told}: the gateway's container begins afresh")
        self._runtime.begin_afresh(gateway, cold=True)
        self._runtime.restart(gateway)
        self._found = self._runtime.containers()

    # --- an operator's ------------------------------------------------------------------------
    @property
    def _operator(self) -> Operator:
        from infrastructure.apply.host.operate import Operator

        return Operator(self._store, self._runtime, self._wire)

    def _restart(self, request: dict[str, Any]) -> Answer:
        self._wire.watch()
        with _signals(self._wire):
            return "done", self._operator.restart(request)

    def _logs(self, request: dict[str, Any]) -> Answer:
        return "done", self._operator.logs(request)

    def _going_back(self, request: dict[str, Any]) -> Answer:
        return "going_back", self._operator.going_back(request)

    def _roll_back(self, request: dict[str, Any]) -> Answer:
        with _signals(self._wire):
            return "done", self._operator.roll_back(request)

    def _ask_bridge(self, request: dict[str, Any]) -> Answer:
        return "ask_bridge", self._operator.ask_bridge(request)

    def _address(self, request: dict[str, Any]) -> Answer:
        return "address", {"address": self._operator.address(request["service"])}

    def _screen(self, request: dict[str, Any]) -> Answer:
        with _signals(self._wire):
            return "done", self._operator.screen(request)

    def _halt(self, request: dict[str, Any]) -> Answer:
        """Without `open`: neither the engine nor another deploy's lock holds a halt up."""
        from infrastructure.apply.host import halt

        self._store = Store(request["base"])
        return "halted", halt.halt(self._store, request)

    def _resume(self, request: dict[str, Any]) -> Answer:
        from infrastructure.apply.host import halt

        self._store = Store(request["base"])
        return "resumed", halt.resume(self._store, request)

    def _cancel_all(self, request: dict[str, Any]) -> Answer:
        from infrastructure.apply.host import halt

        base = Path(request["base"])
        self._store = Store(request["base"])
        return "cancelled", halt.cancel_all(
            self._store, request, lambda: choose(request["runtime"], base, request["project"], ())
        )

    def _facts(self, request: dict[str, Any]) -> Answer:
        from infrastructure.apply.host import facts

        return "facts", facts.collect(self._store, self._runtime, request["checks"])

    def _login_facts(self, _: dict[str, Any]) -> Answer:
        return "login_facts", {"facts": self._runtime.login_facts()}

    def _controller(self, request: dict[str, Any]) -> Answer:
        return "controller", {"controller": self._runtime.controller(request["image"])}

    def _history(self, _: dict[str, Any]) -> Answer:
        return "history", {"entries": self._store.ledger(), "current": self._store.current()}

    def _down(self, request: dict[str, Any]) -> Answer:
        release = self._store.current()
        self._wire.emit("step", text="stopping every service")
        self._runtime.down()
        self._store.end()
        if release is not None:
            self._store.record(command="down", release=release, result="down", by=request["by"])
        return "done", {"release": release, "result": "down"}


def _as_wanted(found: dict[str, Container], wanted: dict[str, Any]) -> bool:
    """Whether the same services run from the same definitions: a plan would change nothing."""
    if not wanted:
        return False
    running = {name: one.hash for name, one in found.items() if one.state in LIVELY}
    return running == wanted["hashes"] and len(found) == len(running)


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
        Program(wire).serve()
    finally:
        # A thread may still wait for input, which keeps Python from an orderly end.
        sys.stdout.flush()
        os._exit(0)
