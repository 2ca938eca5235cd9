"""What an operator does with a running stack. Runs on the host: standard library, Python 3.9.

restart, logs, rollback, the bridge's own routes, the gateway's screen.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from typing import TYPE_CHECKING

from bridge.login import states
from bridge.login.model import TOKEN
from infrastructure.apply.host import parking
from infrastructure.apply.host.alarm import Alarm
from infrastructure.apply.host.deploy import Deploy
from infrastructure.apply.host.health_gate import Gate, WaitingForPerson
from infrastructure.apply.host.wire import Cancelled
from infrastructure.apply.host.workers import Workers, is_worker, of_release
from infrastructure.apply.protocol import documents, events, requests
from infrastructure.apply.protocol.encoding import read
from infrastructure.health import probes
from infrastructure.health.login import farthest, of_container
from infrastructure.release_files import COMPOSE_FILE, SECRETS
from infrastructure.runtime.base import HostFailure
from infrastructure.runtime.containers import actions, serving

if TYPE_CHECKING:
    from bridge.login.model import Login
    from infrastructure.apply.host.store import Store
    from infrastructure.apply.host.wire import Wire
    from infrastructure.runtime.base import Container, Log, Runtime
    from infrastructure.runtime.containers import Action

POLL = 0.2
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


KEPT_WITHIN = 600.0
"""Seconds that a restart with its session may take; one that takes longer hangs."""
HAS_SESSION = (states.LOGGED_IN, states.BLOCKED, states.UNKNOWN)


def _keeps(login: Login) -> bool:
    """Whether it is on its way with the session that it had: at night, or asked for just now."""
    if login.code is not None or time.time() - (login.since or 0.0) > KEPT_WITHIN:
        return False
    by_token = login.state == states.LOGGING_IN and login.began == TOKEN
    return by_token or login.state == states.RESTARTING


def _are_being_kept(found: list[Login]) -> bool:
    """Whether a restart is under way, and every session that is not there comes with it."""
    back = all(one.state in HAS_SESSION or _keeps(one) for one in found)
    return back and any(map(_keeps, found))


def _takes_a_code(login: Login) -> bool:
    return login.state == states.WAITING_2FA and login.kind in ("code", None)


class Operator:
    """The operations on a stack that runs."""

    def __init__(self, store: Store, runtime: Runtime, wire: Wire) -> None:
        self._store = store
        self._runtime = runtime
        self._wire = wire

    def find(self, service: str) -> Container:
        """The container of a service; HostFailure when there is none."""
        found = serving(self._runtime.containers())
        if service not in found:
            known = ", ".join(found) or "nothing is deployed"
            raise HostFailure("no-such-service", f"there is no service '{service}'", known)
        return found[service]

    # --- restart ------------------------------------------------------------------------------
    def restart(self, request: requests.RestartRequest) -> events.Done:
        """Restarts one service and waits until it is healthy; the gateway softly if it can."""
        service, began = request.service, time.monotonic()
        container = self.find(service)
        if is_worker(service):
            return self._restart_worker(container, request.by, began)
        since, kept = "", False
        result, told, hint = "failed: it was not seen to become healthy", "", ""
        alarm = Alarm(self._store, self._runtime, self._wire, request.checks)
        try:
            kept, since = self._begin_again(container, request)
            Gate(
                self._runtime,
                self._wire,
                request.checks,
                request.wait,
                since,
                alarm.waiting,
                self._store.bridge_key,
                stretch=request.stretch,
            ).run()
            result = "healthy"
        except WaitingForPerson as person:
            result, told, hint = "waiting-2fa", person.told, person.hint
        except Cancelled:
            result = "interrupted"
            raise HostFailure("interrupted", f"interrupted; {service} goes on starting") from None
        except Exception as error:
            failure = HostFailure.of(error)
            result = f"failed: {failure.message}"
            if failure.code != "soft-restart-refused":  # the gateway goes on, and a person is here
                alarm.failed(f"`restart {service}`", request.by, failure, "It was not put back.")
            raise failure from None
        finally:
            self._record(f"restart {service}", result, request.by, began)
        return events.Done(
            result,
            self._store.current(),
            healthy=result == "healthy",
            restored=False,
            seconds=round(time.monotonic() - began, 1),
            told=told,
            hint=hint,
            kept=kept,
        )

    def _begin_again(
        self, container: Container, request: requests.RestartRequest
    ) -> tuple[bool, str]:
        """Restarts the service; whether it is a gateway that keeps its session.

        And since when a login of it counts, where that is not of its container's beginning. Of two
        sessions that are just being kept one may be logged in again already.
        """
        service, check = request.service, request.checks.get("gateway", {})
        if service == "gateway" and not request.cold:
            began, sessions = stamp(time.time()), check.get("sessions", ())
            found = of_container(container, self._runtime.login_facts(), (), sessions)
            if container.running and _are_being_kept(found):
                self._say("the gateway restarts already, with its session")
                return True, ""
            if container.running and self._softly(container, request.command_ports, found):
                return True, began
        self._say(f"restarting {service}")
        if service == "gateway":
            self._wire.attempt(
                "the gateway is only stopped",
                lambda: parking.end(self._runtime, self._wire, container, check, keep=False),
            )
            self._runtime.begin_afresh(container, cold=request.cold)
        self._runtime.restart(container)
        return False, ""

    def _restart_worker(self, container: Container, by: str, began: float) -> events.Done:
        """At once, with a new key, whatever it needs: a person asked for it."""
        current = self._store.current() or ""
        note = self._store.noted(current)
        port = note.get("checks", {}).get("bridge", {}).get("port")
        result = "healthy"
        try:
            Workers(self._store, self._runtime, self._wire, of_release(note), port).restart(
                container
            )
        except Exception as error:
            result = f"failed: {HostFailure.of(error).message}"
            raise
        finally:
            self._record(f"restart {container.service}", result, by, began)
        seconds = round(time.monotonic() - began, 1)
        return events.Done("healthy", current, healthy=True, restored=False, seconds=seconds)

    def _softly(self, container: Container, ports: list[int], found: list[Login]) -> bool:
        """False where there is no session to keep: a login that waits is begun anew instead."""
        without = [one for one in found if one.state not in HAS_SESSION and not _keeps(one)]
        if not without:
            self._say("the gateway restarts inside its container, with its session")
            return self._runtime.soft_restart(container, ports)
        if len(without) == len(found):
            self._say("the gateway is not logged in: there is no session to keep")
            return False
        kept = " and ".join(one.session or "" for one in found if one not in without)
        lost = " and ".join(f"{one.session} is {one.state}" for one in without)
        raise HostFailure(
            "soft-restart-refused",
            f"{lost}, and {kept} has a session that a restart of the container would end",
            "wait for the other one; ./deploy.py restart gateway --cold begins both anew",
        )

    def _record(self, command: str, result: str, by: str, began: float) -> None:
        word, _, reason = result.partition(": ")
        self._wire.attempt(
            "it is not in the history",
            lambda: self._store.record(
                command=command,
                release=self._store.current(),
                result=word,
                reason=reason,
                by=by,
                seconds=round(time.monotonic() - began, 1),
            ),
        )

    # --- logs ---------------------------------------------------------------------------------
    def logs(self, request: requests.LogsRequest) -> None:
        """Emits lines: what there is, in order of time, then what comes."""
        found = serving(self._runtime.containers())
        names = request.services or list(found)
        containers = [self.find(name) for name in names]
        since = moment(request.since) if request.since else ""
        if request.follow:
            self._follow(containers, since, request.lines)
            return
        rows = []
        for container in containers:
            log = self._runtime.read_log(container, since=since, lines=request.lines, follow=False)
            last = ""
            for line in log:
                when, text = split(line, last)
                last = when
                rows.append((when, container.service, text))
        if len(containers) > 1:
            rows.sort(key=lambda row: row[0])
        for when, service, text in rows:
            self._wire.emit(events.Line(service, when, text))

    def _follow(self, containers: list[Container], since: str, lines: int) -> None:
        """Until every log has ended, or the client leaves."""
        self._wire.watch()
        rows: queue.Queue[tuple[str, str, str] | None] = queue.Queue()
        logs = []
        for container in containers:
            log = self._runtime.read_log(container, since=since, lines=lines, follow=True)
            logs.append(log)
            reader = threading.Thread(target=_pass_on, args=(container, log, rows), daemon=True)
            reader.start()
        running = len(logs)
        while running and not self._wire.gone.is_set():
            try:
                self._wire.check()
                row = rows.get(timeout=POLL)
            except queue.Empty:
                continue
            except Cancelled:
                break
            if row is None:
                running -= 1
                continue
            self._wire.emit(events.Line(*row))
        for log in logs:
            try:
                log.close()
            except ValueError:  # a generator that its own thread is running
                continue

    # --- rollback -----------------------------------------------------------------------------
    def going_back(self, wanted: str) -> events.GoingBack:
        """Which release a rollback would serve, and what it would change; changes nothing."""
        current = self._store.current()
        name = wanted or self._store.proven(but=current)
        kept = self._store.kept()
        if not name:
            raise HostFailure("no-release", "there is no earlier release that was healthy")
        matches = [name] if name in kept else [one for one in kept if one.startswith(name)]
        if len(matches) > 1:
            text = f"'{name}' begins {len(matches)} releases: {', '.join(matches)}"
            raise HostFailure("no-release", text, "name one with more of its letters")
        if len(matches) != 1 or not self._store.noted(matches[0]):
            hint = f"kept are {', '.join(kept)}" if kept else "nothing is deployed"
            raise HostFailure("no-release", f"there is no release '{name}' on the host", hint)
        name = matches[0]
        definition = self._store.release(name) / COMPOSE_FILE
        text = definition.read_text("utf-8") if definition.exists() else ""
        return events.GoingBack(
            name, current, self._changes(name), text, self._other_secrets(name, current)
        )

    def _other_secrets(self, release: str, current: str | None) -> list[str]:
        """Secrets that both releases have, each another one."""
        before = self._store.manifest(release).get("files", {})
        now = self._store.manifest(current).get("files", {})
        beginning = f"{SECRETS}/"
        return sorted(
            path[len(beginning) :]
            for path, digest in before.items()
            if path.startswith(beginning) and now.get(path, digest) != digest
        )

    def _moved(self, pinned: dict[str, str]) -> dict[str, str]:
        """Of the images that a release was healthy with, those whose names stand for others now."""
        return {
            name: image_id
            for name, image_id in pinned.items()
            if self._runtime.image(name).get("id") != image_id
        }

    def _changes(self, release: str) -> dict[str, Action]:
        wanted: dict[str, str] | None = self._store.manifest(release).get("services")
        if wanted is None:
            text = f"the list of release '{release}' is damaged on the host"
            raise HostFailure("no-release", text, "./deploy.py history names others")
        running = serving(self._runtime.containers())
        found = actions(wanted, running)
        pinned = self._store.noted(release).get("images", {})
        for name, one in running.items():  # the same definition, made from another image
            moved = pinned.get(one.image, one.image_id) != one.image_id
            if moved and found.get(name) in ("unchanged", "restart"):
                found[name] = "update"
        return {name: action for name, action in found.items() if action != "unchanged"}

    def roll_back(self, request: requests.RollBackRequest) -> events.Done:
        """Serves an earlier release again; what serves now is restored when it is not healthy."""
        self._wire.watch()
        noted = self._store.noted(request.release)
        as_applied = requests.ApplyRequest(
            release=request.release,
            services=read(list[documents.ServiceImage], noted["services"]),
            changes=self._changes(request.release),
            checks=noted["checks"],
            wait=request.wait,
            by=request.by,
            command="rollback",
            stretch=request.stretch,
            keep=request.keep,
            images=self._moved(noted.get("images", {})),
        )
        return Deploy(self._store, self._runtime, self._wire, as_applied).run()

    # --- images -------------------------------------------------------------------------------
    def newer(self, images: dict[str, str]) -> events.NewerFound:
        """What the services run, and what their names mean at the registry now."""
        running, refused = serving(self._runtime.containers()), self._store.refused()
        found = []
        for service, image in images.items():
            container = running.get(service)
            named = container.image if container else image
            found_there = self._runtime.image(container.image_id if container else image, named)
            runs = {**found_there, "name": named}
            digest, why = self._runtime.at_registry(image)
            there = documents.ImageState(image, digest=digest)
            before = refused.get(digest, "")
            state = documents.ImageState(**runs)
            found.append(documents.Newer(service, state, there, why, before))
        return events.NewerFound(found)

    def fetch(self, image: str, digest: str) -> events.Fetched:
        """The image under its digest, whatever its name stands for."""
        self._say(f"pulling {image}")
        return events.Fetched(documents.ImageState(**self._runtime.fetch(image, digest)))

    # --- the bridge's routes --------------------------------------------------------------------
    def ask_bridge(self, request: requests.AskBridgeRequest) -> events.AskBridge:
        """One request to the bridge with the first key, which never leaves the host."""
        container = self.find("bridge")
        if not container.running:
            raise HostFailure("bridge-stopped", "the bridge does not run", "./deploy.py up")
        address, port = probes.reach(container, request.bridge_port)
        began = time.monotonic()
        status, body = probes.bridge(
            address,
            port,
            request.path,
            self._store.bridge_key(),
            request.within,
            method=request.method,
            body=request.body,
        )
        seconds = time.monotonic() - began
        return events.AskBridge(status, body, round(seconds, 4))

    def address(self, service: str) -> str:
        """Where the host reaches a service's container."""
        container = self.find(service)
        if not container.running:
            raise HostFailure(f"{service}-stopped", f"{service} does not run", "./deploy.py up")
        return container.addresses[0] if container.addresses else "127.0.0.1"

    # --- the screen ---------------------------------------------------------------------------
    def type_code(self, request: requests.TypeCodeRequest) -> None:
        """Types a code, and waits a while for what becomes of the login."""
        container = self._gateway()
        found = of_container(container, self._runtime.login_facts(), (), request.asked.sessions)
        if not any(one.state == states.UNKNOWN or _takes_a_code(one) for one in found):
            # A person took longer than the window: Enter would go into whatever is there now.
            raise HostFailure(
                "no-code-asked",
                f"no code is asked for any more: the login is {farthest(found).state}",
                "./deploy.py login says what is asked for",
            )
        self._runtime.type_code(container, request.code)
        deadline = time.monotonic() + request.seconds
        while time.monotonic() < deadline and not self._wire.gone.is_set():
            self._wire.check()
            found = of_container(container, self._runtime.login_facts(), (), request.asked.sessions)
            if farthest(found).state not in (states.WAITING_2FA, states.LOGGING_IN):
                return
            time.sleep(POLL)

    def picture(self) -> bytes:
        """The gateway's screen as a PNG."""
        return self._runtime.picture(self._gateway())

    def _gateway(self) -> Container:
        container = self.find("gateway")
        if not container.running:
            raise HostFailure("gateway-stopped", "the gateway does not run", "./deploy.py up")
        return container

    def screen(self, password: str) -> None:
        """Shows the gateway's screen until the client leaves or says `cancel`."""
        container = self._gateway()
        self._wire.watch()
        screen = self._runtime.screen(container)
        try:
            port = screen.show(password)
            address = container.addresses[0] if container.addresses else "127.0.0.1"
            self._wire.emit(events.Screen(address, port))
            while not self._wire.gone.is_set() and not screen.ended:
                self._wire.check()
                time.sleep(POLL)
        except Cancelled:
            pass
        finally:
            screen.close()

    def _say(self, text: str) -> None:
        self._wire.emit(events.Step(text))


def _pass_on(
    container: Container, log: Log, rows: queue.Queue[tuple[str, str, str] | None]
) -> None:
    last = ""
    try:
        for line in log:
            last, text = split(line, last)
            rows.put((container.service, last, text))
    except ValueError:  # closed while it was being read
        pass
    rows.put(None)


def split(line: str, last: str) -> tuple[str, str]:
    """A line's time and text; a line without a time has that of the line before it."""
    when, _, text = line.partition(" ")
    return (last if when == "-" else when), text


def stamp(seconds: float) -> str:
    """ISO 8601 UTC with milliseconds."""
    fraction = int(seconds * 1000) % 1000
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{fraction:03d}Z"


def moment(text: str) -> str:
    """`10m`, `2h30m`, `1d` before now by the host's clock; anything else as it is (ISO 8601)."""
    if not re.fullmatch(r"(\d+[smhd])+", text):
        return text
    seconds = sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([smhd])", text))
    return stamp(time.time() - seconds)
