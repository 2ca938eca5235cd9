"""The client's side of one command on a host, from looking around to what an operator asks for.

One connection, one program: `begin` lets it look around (and lock, for a deploy), `observe`
compares, `apply` hands the release over on the same stream (`apply.exchange`).
"""

from __future__ import annotations

import base64
import contextlib
import getpass
import io
import platform
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from infrastructure.apply.bundle import owners, pack, reused
from infrastructure.apply.checks import checks, checks_alone, ends
from infrastructure.apply.exchange import ANSWER_WITHIN, WORK_WITHIN, Exchange, Listener
from infrastructure.apply.protocol import documents, events, requests
from infrastructure.errors import GangwayError, Interrupted, WaitingForPerson
from infrastructure.plan.observed import Observed, ObservedFile, ObservedService
from infrastructure.render.layout import COMMAND_PORTS, RELAY_PORTS
from infrastructure.render.model import CONTAINER_UID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from infrastructure.config import Target
    from infrastructure.plan.compute import Plan
    from infrastructure.render.model import Release
    from infrastructure.transport import Transport

STRETCH = 3.0
"""By how much the default may grow while the machine lets its programs wait."""
HEALTHY_WITHIN = 300.0
"""Default seconds until healthy, the wait for a person not counted (`up --wait`)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How work ended well: healthy, or with a gateway that waits for a person."""

    release: str
    healthy: bool
    restored: bool
    seconds: float
    kept: bool = False
    """Whether the gateway kept its session (a restart)."""
    workers: Mapping[str, str] = field(default_factory=dict)
    """Workers that do not run as they should, and why."""


@dataclass(frozen=True, slots=True)
class Schedules:
    """What a host does by itself: backups, and the weekly look at images."""

    backups: documents.BackupFacts | None
    weekly: bool


class Session:
    """A host's program for the length of one command."""

    def __init__(self, transport: Transport, target: Target, listener: Listener) -> None:
        self._target = target
        self._exchange = Exchange(transport, target, listener)
        self._sandbox = target.stack.runtime == "sandbox"
        self._bridge_port = target.stack.bridge.port
        self.has_release = False
        self.pending: dict[str, Any] | None = None
        self._known: Mapping[str, ObservedFile] = {}
        self._verifying = False
        self._screen_on = False
        self._work = WORK_WITHIN
        self.lock_wait = 0.0
        """Seconds for which another's lock is waited for (`up --lock-wait`)."""

    def close(self) -> None:
        """Ends the program on the host."""
        self._exchange.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the program on the host."""
        self.close()

    # --- looking around -----------------------------------------------------------------------
    def begin(self, *, lock: bool = False) -> None:
        """Sends the program on its way; it looks at the host while the caller renders.

        With `lock` nobody else may deploy until the session ends.
        """
        stack = self._target.stack
        self._exchange.send(
            requests.OpenRequest(
                *(str(self._target.base), self._target.project, stack.runtime, person()),
                lock=lock,
                lock_wait=self.lock_wait,
            )
        )

    def observe(self, release: Release | None = None, *, verify: float | None = None) -> Observed:
        """What is on the host now, compared with a release.

        `verify`: when nothing differs, the host goes on at once to see whether all is healthy,
        within so many seconds; `verified` waits for that.

        Raises:
            DeployLocked: another deploy holds the lock.
            DeployFailed: the host has no Docker, no Compose v2, or does not let us use them.
        """
        request = requests.ObserveRequest(sessions=list(self._target.stack.sessions))
        if release is not None:
            request.release = release.id
            request.files = {item.path: item.digest for item in release.files}
            if verify is not None:
                self._allow(verify)
                request.verify = self._verify_request(release, verify)
        self._exchange.send(request)
        found = self._exchange.until(events.Observed, ANSWER_WITHIN + self.lock_wait)
        asked = time.time()
        self._verifying, self.has_release, self.pending = found.verifying, found.has, found.pending
        try:
            self._known = {path: _file(item) for path, item in found.files.items()}
        except ValueError as error:
            raise GangwayError(
                f"{self._exchange.name} answers what no program of ours says: {error}",
                code="protocol",
            ) from error
        services = {name: ObservedService(**vars(item)) for name, item in found.services.items()}
        logins, skew = tuple(found.logins), found.time - asked
        return Observed(found.release, self._known, services, logins, found.time, skew)

    def open(self, release: Release | None = None, *, lock: bool = False) -> Observed:
        """`begin` and `observe`."""
        self.begin(lock=lock)
        return self.observe(release)

    def status(self) -> events.Status:
        """The logins, and the bridge's own health."""
        return self._exchange.ask(events.Status, self._status_request())

    def type_code(self, code: str, seconds: float) -> events.Status:
        """Types a code into the gateway's window; the status when it was taken, or after a while.

        Raises:
            DeployFailed: the gateway has no window.
        """
        request = requests.TypeCodeRequest(code, seconds, self._status_request())
        return self._exchange.ask(events.Status, request)

    def picture(self) -> bytes:
        """The gateway's window as a PNG."""
        found = self._exchange.ask(events.Picture, requests.PictureRequest())
        return base64.b64decode(found.png)

    def _status_request(self) -> requests.StatusRequest:
        stack = self._target.stack
        caddy = checks(self._target, ("caddy",))["caddy"]
        return requests.StatusRequest(self._bridge_port, list(stack.sessions), stack.session, caddy)

    def facts(self) -> events.Facts:
        """All that the host knows of itself and of the stack, for `status` and `doctor`."""
        request = requests.FactsRequest(checks(self._target, ("gateway", "caddy")))
        return self._exchange.ask(events.Facts, request)

    def login_facts(self) -> dict[str, str]:
        """What the gateway's container has written down of its logins, by session."""
        return self._exchange.ask(events.LoginFacts, requests.LoginFactsRequest()).facts

    def controller(self, image: str) -> str | None:
        """What logs in within a gateway image, as the host tells; None: the image is not there."""
        self._exchange.send(requests.ControllerRequest(image))
        # It may be the first question, to a host that waits for another's lock.
        return self._exchange.until(events.Controller, ANSWER_WITHIN + self.lock_wait).controller

    def history(self) -> events.History:
        """The ledger, oldest first, and the release that serves."""
        return self._exchange.ask(events.History, requests.HistoryRequest())

    def address(self, service: str) -> str:
        """Where the host reaches a service's container on the stack's private network."""
        return self._exchange.ask(events.Address, requests.AddressRequest(service)).address

    def logs(
        self, services: list[str], *, since: str, lines: int, follow: bool
    ) -> Iterator[events.Line]:
        """Lines in order of time; with `follow` until the services end."""
        self._exchange.send(requests.LogsRequest(services, since, lines, follow))
        return self._exchange.each(events.Line)

    # --- deploying ----------------------------------------------------------------------------
    def apply(
        self,
        plan: Plan,
        release: Release,
        *,
        fresh: bool = False,
        wait: float | None = None,
        gate: documents.Checks | None = None,
        command: str = "up",
        images: dict[str, str] | None = None,
    ) -> Outcome:
        """Carries the plan out and waits until the stack is healthy.

        `fresh`: what is built is built without cached layers. `gate`: what must be healthy at the
        end (`apply.checks`) instead of everything. `command`: what the ledger calls it. `images`:
        names to the ids that they shall stand for.

        Raises:
            DeployFailed: it did not become healthy; `restored` says whether the old one serves.
            WaitingForPerson: the second factor was not approved in time; nothing was torn down.
        """
        changes = {one.service: one.action for one in plan.changes if one.action != "unchanged"}
        if self.builds_here:
            self._ship_images(release, changes, fresh=fresh)
            fresh = False
        known = {} if self.has_release else reused(release, self._known)
        archive = b"" if self.has_release else pack(release, known)
        request = requests.ApplyRequest(
            release=release.id,
            tar=len(archive),
            owners=owners(release),
            reused=known,
            folders=[documents.DataFolder(one.path, one.mode, one.uid) for one in release.folders],
            services=[
                documents.ServiceImage(
                    *(one.name, one.image, one.builds, fresh and one.builds),
                    needs=one.needs,
                    api_key=one.api_key,
                )
                for one in release.services
            ],
            changes=dict(changes),
            checks=checks(self._target, [item.name for item in release.services]),
            wait=wait or HEALTHY_WITHIN,
            stretch=stretch(wait),
            by=person(),
            gate=gate,
            command=command,
            keep=plan.forecast.token,
            images=images or {},
            published=published(self._target),
            memory=sum(self._target.stack.budget(one.name).memory for one in release.services),
        )
        self._allow(request.wait)
        self._exchange.send(request)
        self._exchange.pour("the release", io.BytesIO(archive), len(archive))
        return self._outcome()

    def _ship_images(self, release: Release, changes: Mapping[str, str], *, fresh: bool) -> None:
        """With `bridge.build: local`: builds here what the host lacks, and loads it there."""
        built = [item for item in release.services if item.builds and item.name in changes]
        if built:
            from infrastructure.apply.shipping import Shipping

            Shipping(self._exchange, self._target, release).ship(built, fresh=fresh)

    @property
    def builds_here(self) -> bool:
        """Whether images are built on this machine and shipped."""
        return self._target.stack.bridge.build == "local" and not self._sandbox

    def replace_worker(
        self, plan: Plan, release: Release, *, fresh: bool, wait: float | None = None
    ) -> Outcome:
        """Builds or pulls one worker (`fresh`: without cached layers) and puts it into service."""
        command = "rebuild" if fresh else "sync"
        return self.apply(plan, release, fresh=fresh, wait=wait, command=command, gate={})

    def replace_bridge(
        self,
        plan: Plan,
        release: Release,
        *,
        fresh: bool,
        logged_in: bool,
        wait: float | None = None,
    ) -> Outcome:
        """Builds the bridge (`fresh`: without cached layers) and puts it into service alone.

        `logged_in`: the gateway can serve, so the bridge has to connect to be healthy.
        """
        return self.apply(
            plan,
            release,
            fresh=fresh,
            wait=wait,
            command="rebuild" if fresh else "sync",
            gate=checks(self._target, ("bridge", "caddy")) if logged_in else {"bridge": {}},
        )

    def verified(
        self, release: Release, *, wait: float | None = None, gate: documents.Checks | None = None
    ) -> Outcome:
        """Waits until what runs already is healthy, or what `gate` names of it; no changes."""
        if not self._verifying:
            request = self._verify_request(release, wait or HEALTHY_WITHIN)
            request.stretch = stretch(wait)
            if gate is not None:
                request.checks = gate
            self._allow(request.wait)
            self._exchange.send(request)
        return self._outcome()

    def _verify_request(self, release: Release, wait: float) -> requests.VerifyRequest:
        return requests.VerifyRequest(
            checks(self._target, [item.name for item in release.services]),
            wait,
            {item.name: item.hash for item in release.services},
            afresh=True,
        )

    def restart(
        self, service: str, observed: Observed, *, cold: bool, wait: float | None = None
    ) -> Outcome:
        """Restarts one service, of what was `observed`.

        One that leans on what does not serve itself only has to run.

        Raises:
            WaitingForPerson: the new login was not approved in time; it goes on waiting.
            DeployFailed: it did not become healthy.
        """
        wanted = checks_alone(self._target, service, observed)
        if service == "gateway":
            wanted = checks(self._target, [service, "bridge"])
        request = requests.RestartRequest(
            service,
            cold,
            [COMMAND_PORTS[mode] for mode in self._target.stack.sessions],
            wanted,
            wait or HEALTHY_WITHIN,
            person(),
            stretch=stretch(wait),
        )
        self._allow(request.wait)
        self._exchange.send(request)
        return self._outcome()

    def going_back(self, release: str) -> events.GoingBack:
        """What a rollback would change; changes nothing.

        Raises:
            DeployFailed: there is no such release on the host.
        """
        return self._exchange.ask(events.GoingBack, requests.GoingBackRequest(release))

    def roll_back(self, release: str, *, keep: bool, wait: float | None = None) -> Outcome:
        """Serves an earlier release again, or leaves the present one serving.

        `keep`: the gateway's session may go over, as its plan says.
        """
        seconds, by = wait or HEALTHY_WITHIN, person()
        request = requests.RollBackRequest(release, seconds, by, keep, stretch(wait))
        self._allow(request.wait)
        self._exchange.send(request)
        return self._outcome()

    def backup(self) -> tuple[bytes, events.Backup]:
        """The archive of what the stack cannot do without, and what is in it."""
        from bridge import __version__

        self._exchange.send(requests.BackupRequest(self._target.name, __version__))
        pieces: list[bytes] = []

        def taken(event: events.Event) -> bool:
            if isinstance(event, events.Piece):
                pieces.append(base64.b64decode(event.data))
                return True
            return False

        with _when_interrupted("no backup was written"):
            found = self._exchange.until(events.Backup, WORK_WITHIN, taken)
        content = b"".join(pieces)
        if len(content) != found.size:
            raise GangwayError("the backup is not whole", code="protocol")
        return content, found

    def restore(self, content: bytes) -> events.Restored:
        """Puts a backup back.

        Raises:
            DeployFailed: the stack runs, its journal knows more, or this is no whole backup.
        """
        owner = None if self._sandbox else CONTAINER_UID
        with _when_interrupted("nothing was put back"):
            request = requests.RestoreRequest(len(content), owner, target=self._target.name)
            self._exchange.send(request)
            self._exchange.pour("the backup", io.BytesIO(content), len(content))
        with _when_interrupted(*GOES_ON_RESTORING):
            return self._exchange.until(events.Restored, WORK_WITHIN)

    def keep_backups(
        self, to: documents.RepositoryPart, *, keep: int, every: float = 0.0
    ) -> events.KeptBackup:
        """One backup into a repository that the host reaches; with `every` from now on, too.

        Raises:
            DeployFailed: it did not go well; an earlier schedule goes on as it was.
        """
        from bridge import __version__
        from infrastructure.apply.bundle import scheduled_program

        program = scheduled_program() if every else ""
        self._exchange.send(
            requests.KeepBackupsRequest(to, self._target.name, __version__, keep, every, program)
        )
        with _when_interrupted("the host goes on with the backup", "the same again does no harm"):
            return self._exchange.until(events.KeptBackup, WORK_WITHIN)

    def end_backups(self) -> bool:
        """Ends the schedule; whether there was one."""
        return self._exchange.ask(events.Scheduled, requests.EndBackupsRequest()).changed

    def watch_images(self, *, wanted: bool) -> bool:
        """Has the host ask the registries every week, or no longer; whether that changed.

        Raises:
            DeployFailed: the host is not run by systemd, or we are not root there.
        """
        from infrastructure.apply.bundle import scheduled_program

        program = scheduled_program() if wanted else ""
        request = requests.WatchImagesRequest(wanted, program)
        return self._exchange.ask(events.Scheduled, request).changed

    def restore_from(self, repository: documents.RepositoryPart, snapshot: str) -> events.Restored:
        """Puts a backup of a repository back; raises as `restore`."""
        owner = None if self._sandbox else CONTAINER_UID
        request = requests.RestoreRequest(
            0, owner, repository=repository, snapshot=snapshot, target=self._target.name
        )
        self._exchange.send(request)
        with _when_interrupted(*GOES_ON_RESTORING):
            return self._exchange.until(events.Restored, WORK_WITHIN)

    def leave(self, to: str) -> None:
        """The stack runs at `to` now: its old host starts nothing of it any more."""
        self._exchange.ask(events.Left, requests.LeaveRequest(to))

    def end_schedules(self) -> Schedules:
        """Ends all that the host does by itself for the stack; what that was."""
        backups = self._exchange.ask(events.Scheduled, requests.EndBackupsRequest())
        weekly = self.watch_images(wanted=False)
        return Schedules(backups.backups, weekly=weekly)

    def down(self, *, hold: bool = False) -> str | None:
        """Stops and removes every service; the release that served.

        `hold`: nobody may start it again before the session ends.
        """
        self._exchange.send(requests.DownRequest(person(), ends(self._target.stack), hold))
        hint = "./deploy.py status shows when nothing runs any more"
        with _when_interrupted("the host goes on stopping every service", hint):
            return self._exchange.until(events.Ended, WORK_WITHIN).release

    def _allow(self, wait: float) -> None:
        """Sets how long work may take, with a person's approval; once more for the way back."""
        person_takes = self._target.stack.gateway.two_factor.wait * len(self._target.stack.sessions)
        self._work = WORK_WITHIN + 2 * (STRETCH * wait + person_takes)

    def _outcome(self) -> Outcome:
        try:
            done = self._exchange.until(events.Done, self._work)
        except KeyboardInterrupt:
            done = self._cancelled()
        if done.result == "waiting-2fa":
            told = done.told or "waiting for 2FA"
            raise WaitingForPerson(
                f"the gateway is still {told}; nothing was torn down"
                if told.startswith("waiting")
                else f"{told}; nothing was torn down",
                hint=done.hint
                or "approve it on IBKR Mobile; ./deploy.py status then shows it healthy",
            )
        return Outcome(
            *(done.release or "", done.healthy, done.restored, done.seconds, done.kept),
            done.workers,
        )

    def _cancelled(self) -> events.Done:
        """Ctrl-C: the host is asked to stop in good order; a second one leaves it to itself."""
        step = events.Step("stopping; the host puts things in order")
        self._exchange.listener.event(step)
        self._exchange.cancel()
        done = self._exchange.until(events.Done, self._work)
        if done.result == "waiting-2fa":
            raise Interrupted("interrupted; the gateway still waits for 2FA, nothing was torn down")
        return done

    def newer(self, images: dict[str, str]) -> list[documents.Newer]:
        """What services (`{service: image}`) run, and what is at their registries now."""
        request = requests.NewerRequest(images)
        return self._exchange.ask(events.NewerFound, request).services

    def fetch(self, image: str, digest: str) -> documents.ImageState:
        """Has the host get an image; no name moves.

        Raises:
            DeployFailed: it cannot be had, or is for another kind of machine.
        """
        self._exchange.send(requests.FetchRequest(image, digest))
        return self._exchange.until(events.Fetched, WORK_WITHIN).image

    # --- operating ----------------------------------------------------------------------------
    def ask_bridge(
        self, method: str, path: str, body: Any = None, within: float = 10.0
    ) -> events.AskBridge:
        """A request to the bridge with the first key, which it answers in so many seconds."""
        request = requests.AskBridgeRequest(method, path, self._bridge_port, body, within)
        return self._exchange.ask(events.AskBridge, request)

    @contextmanager
    def screen(self, password: str) -> Iterator[tuple[str, int]]:
        """The gateway's screen by VNC: address and port as the host reaches them.

        It is turned off at the end of the block, and by the host itself when we are gone.
        """
        found = self._exchange.ask(events.Screen, requests.ScreenRequest(password))
        self._screen_on = True
        try:
            yield found.address, found.port
        finally:
            if self._screen_on:
                with contextlib.suppress(GangwayError):
                    self._exchange.cancel()
                    self._exchange.until(events.Ended)

    def watch_screen(self) -> None:
        """Returns when the VNC server has ended on its own; meant to be interrupted."""
        self.stay()
        self._screen_on = False

    def stay(self) -> None:
        """Stays connected; meant to be interrupted.

        Raises:
            HostUnreachable: the connection is lost: the host says all the time that it is there.
        """
        self._exchange.until(events.Ended, None)

    # --- the kill switch: needs no `begin` ------------------------------------------------------
    def halt(self, cancel: str, reason: str) -> events.Halted:
        """Halts trading, with the bridge or around it (`apply.host.halt`)."""
        base = str(self._target.base)
        request = requests.HaltRequest(base, self._bridge_port, person(), cancel, reason)
        return self._exchange.ask(events.Halted, request)

    def resume(self) -> events.Halted:
        request = requests.ResumeRequest(str(self._target.base), self._bridge_port, person())
        return self._exchange.ask(events.Halted, request)

    def cancel_all(self) -> events.Cancelled:
        """A global cancel from the host straight to the gateway.

        Raises:
            DeployFailed: it cannot have gone out.
        """
        target, stack = self._target, self._target.stack
        request = requests.CancelAllRequest(
            str(target.base), target.project, stack.runtime, person(), RELAY_PORTS[stack.session]
        )
        request.relays = {} if self._sandbox else dict(RELAY_PORTS)
        if self._sandbox:
            request.tws_address, request.tws_port = "127.0.0.1", stack.simulated.tws_port
        return self._exchange.ask(events.Cancelled, request)


GOES_ON_RESTORING = (
    "the host goes on putting the backup in its place",
    "when it has ended, restore again says whether anything is missing: it does no harm",
)


@contextmanager
def _when_interrupted(what: str, hint: str = "") -> Iterator[None]:
    """Ctrl-C in work that the host does not break off: what becomes of it."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {what}", hint=hint) from None


def published(target: Target) -> dict[str, str]:
    """What a stack publishes on its host: the setting's name to `address:port`."""
    stack = target.stack
    if stack.runtime == "sandbox":
        return {}
    found = {
        "bridge.port": f"127.0.0.1:{stack.bridge.port}",
        "caddy.http_port": f"{stack.caddy.listen}:{stack.caddy.http_port}",
        "caddy.https_port": f"{stack.caddy.listen}:{stack.caddy.https_port}",
    }
    if stack.gateway.publish_api:
        found["gateway.publish_api"] = stack.gateway.publish_api
    return found


def stretch(wait: float | None) -> float:
    """How far the budget may grow on a busy machine: what a person has asked for does not."""
    return STRETCH if wait is None else 1.0


def _file(found: documents.FileState) -> ObservedFile:
    content = None if found.content is None else base64.b64decode(found.content)
    return ObservedFile(found.digest, content)


def person() -> str:
    """Who works here, for the ledger."""
    with contextlib.suppress(OSError, KeyError):
        return f"{getpass.getuser()}@{platform.node()}"
    return platform.node()
