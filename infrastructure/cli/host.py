"""The steps that every command with a host shares: render, connect, observe, plan."""

from __future__ import annotations

import dataclasses
import re
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infrastructure import kept
from infrastructure.cli.progress import Progress
from infrastructure.errors import GangwayError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infrastructure.apply.session import Session
    from infrastructure.cli.settings import Settings
    from infrastructure.config import Target
    from infrastructure.config.host import Host
    from infrastructure.plan.compute import Plan
    from infrastructure.plan.observed import Observed
    from infrastructure.render.model import Release
    from infrastructure.transport import Transport
    from infrastructure.transport.base import Dial


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan for a host that is still connected."""

    target: Target
    session: Session
    release: Release
    observed: Observed
    plan: Plan


@contextmanager
def reached(current: Settings, target: Target) -> Iterator[tuple[Session, Transport]]:
    """A session on the target's host, its events shown, and the connection for tunnels over it."""
    with _reached(current, target) as (session, transport, _):
        yield session, transport


@contextmanager
def _reached(
    current: Settings, target: Target
) -> Iterator[tuple[Session, Transport, Callable[[], None]]]:
    from infrastructure.apply.session import Session
    from infrastructure.transport import connect

    with (
        Progress(current.out, verbose=current.verbose, quiet=current.quiet) as progress,
        connect(target, current.trust_host_key) as transport,
        Session(transport, target, progress) as session,
    ):
        yield session, transport, progress.rest


@contextmanager
def connected(current: Settings, target: Target) -> Iterator[Session]:
    """A session on the target's host, with its events shown."""
    with reached(current, target) as (session, _):
        yield session


@contextmanager
def held(current: Settings, target: Target) -> Iterator[tuple[Session, Callable[[], None]]]:
    """A session that stays while another host is worked with; the second part ends what moves."""
    with _reached(current, target) as (session, _, rest):
        yield session, rest


def ask_bridge(
    current: Settings, method: str, path: str, body: Any = None, within: float = 10.0
) -> Any:
    """One request to the bridge, asked on the host itself; its answer in so many seconds, decoded.

    Raises:
        GangwayError: the bridge does not answer, or said no.
    """
    with connected(current, current.target()) as session:
        session.open()
        found = session.ask_bridge(method, path, body, within)
    status, answer = found.status, found.body
    if status == 0:
        hint = "./deploy.py status, ./deploy.py logs bridge"
        raise GangwayError("the bridge does not answer", hint=hint, code="bridge-silent")
    if status >= 400:
        told = answer if isinstance(answer, dict) else {}
        raise GangwayError(
            told.get("detail") or f"the bridge answers {status}",
            hint=told.get("nextStep") or "",
            code=told.get("code") or "bridge-refused",
        )
    return answer


class Opening:
    """Connects while the caller checks and renders: the network's round trips cost no time.

    It begins with the host that stack.yaml probably means (`likely_host`), and goes on once the
    checked target is known; should that have another host, it begins anew.
    """

    def __init__(self, current: Settings, progress: Progress, *, lock: bool) -> None:
        self._settings = current
        self._progress = progress
        self._lock = lock
        self._parts = ExitStack()
        self._target: Target | None = None
        self._known = threading.Event()
        self._session: Session | None = None
        self._error: BaseException | None = None
        self._dial: Dial | None = None
        self._thread = threading.Thread(target=self._run, args=(self._likely(),), daemon=True)

    def _likely(self) -> Host | None:
        host = _likely_host(self._settings)
        if host is not None:
            if host.jump is None:
                from infrastructure.transport.base import Dial

                self._dial = Dial(host)
            # loaded here, because two threads that load take twice as long
            import infrastructure.transport.ssh  # noqa: F401
        return host

    def start(self) -> None:
        self._thread.start()

    def go_on(self, target: Target) -> None:
        """The checked target is known: the host's program may start and look around."""
        self._target = target
        self._known.set()

    def _run(self, likely: Host | None) -> None:
        try:
            self._session = self._open(likely)
        except BaseException as error:
            self._error = error  # raised again in the caller's thread

    def _open(self, likely: Host | None) -> Session | None:
        from infrastructure.transport import connect, connect_host

        transport, failed = None, None
        if likely is not None:
            try:
                transport = connect_host(likely, self._settings.trust_host_key, self._dial)
                self._parts.enter_context(transport)
            except GangwayError as error:
                failed = error
        self._known.wait()
        if self._target is None:
            return None
        if self._target.stack.host != likely:
            transport = self._parts.enter_context(
                connect(self._target, self._settings.trust_host_key)
            )
        elif failed is not None:
            raise failed
        return self._begin(transport, self._target)

    def _begin(self, transport: Transport | None, target: Target) -> Session:
        from infrastructure.apply.session import Session

        if transport is None:
            raise RuntimeError("no connection")
        session = Session(transport, target, self._progress)
        self._parts.enter_context(session)
        session.lock_wait = self._settings.lock_wait
        session.begin(lock=self._lock)
        return session

    def result(self) -> Session:
        """The session; whatever went wrong with it is raised here."""
        while self._thread.is_alive():
            self._thread.join(0.5)  # in steps, so that Ctrl-C is heard
        if self._session is None:
            raise self._error or RuntimeError("no session")
        return self._session

    def close(self) -> None:
        """Ends what was opened."""
        self._known.set()
        self._parts.close()
        if self._dial is not None:
            self._dial.close()


def _likely_host(current: Settings) -> Host | None:
    """Where the target probably is, before it is checked; None: this machine, or in doubt."""
    if kept.in_use():
        from infrastructure.config.kept import known, question

        asked = question(current.config, current.target_name)
        if asked is not None and (target := known(asked)) is not None:
            return None if target.local else target.stack.host
    from infrastructure.config.host import likely_host

    return likely_host(current.config or "stack.yaml", current.target_name)


def undecided(target: Target) -> bool:
    """Whether only the host can tell what logs in: `auto`, and an image that is not IBC's own."""
    gateway, real = target.stack.gateway, target.stack.runtime == "compose"
    known = re.match(r"(ghcr\.io/)?gnzsnz/ib-gateway[:@]", gateway.image)
    return real and gateway.controller == "auto" and known is None


def with_controller(target: Target, session: Session) -> Target:
    """The target with what the image on its host says; of an image that is not there, its name.

    Raises:
        UsageError: the image has a controller that cannot be driven yet.
    """
    image = target.stack.gateway.image
    return _with(target, session.controller(image) or _named(image))


def with_named_controller(current: Settings, target: Target) -> Target:
    """The same where no host is asked: as the image's name tells, which is said."""
    from infrastructure.errors import Problem

    if not undecided(target):
        return target
    found = _with(target, _named(target.stack.gateway.image))
    controller = found.stack.gateway.controller
    current.out.warn(
        Problem(
            f"{target.name}: no host is asked what the gateway's image logs in with; by its name it"
            f" is {controller}",
            target.place("gateway", "image"),
            f"gateway.controller: {controller} says so for good, or name the other one: each reads"
            " passwords in its own way",
        )
    )
    return found


def _named(image: str) -> str:
    from infrastructure.runtime.containers import IBC, IBG_CONTROLLER

    return IBG_CONTROLLER if IBG_CONTROLLER in image else IBC


def _with(target: Target, found: str) -> Target:
    from infrastructure.errors import UsageError
    from infrastructure.runtime.containers import IBCONTROLLER

    gateway = target.stack.gateway
    if found == IBCONTROLLER:
        raise UsageError(
            f"the image {gateway.image} logs in with ibcontroller, which cannot be driven yet",
            target.place("gateway", "image"),
            "use ghcr.io/gnzsnz/ib-gateway, or set gateway.controller if that is wrong",
            code="controller",
        )
    changed = gateway.model_copy(update={"controller": found})
    stack = target.stack.model_copy(update={"gateway": changed})
    return dataclasses.replace(target, stack=stack)


def decided(current: Settings, target: Target, session: Session) -> Target:
    """The target with its controller known; what is odd only with that one is said now."""
    if not undecided(target):
        return target
    from infrastructure.config.checks import cold_restart_of_nobody

    target = with_controller(target, session)
    for warning in cold_restart_of_nobody(target.stack, target.place):
        current.out.warn(warning)
    return target


@contextmanager
def planned(
    current: Settings,
    *,
    lock: bool = False,
    verify: float | None = None,
    change: Callable[[Target], Target] | None = None,
) -> Iterator[Planned]:
    """Checks, renders, observes and compares; with `lock` nobody else may deploy meanwhile.

    `change` makes of the target what shall be rendered instead.

    `verify`: when nothing differs, the host sees within so many seconds whether all is healthy.
    """
    with (
        Progress(current.out, verbose=current.verbose, quiet=current.quiet) as progress,
        ExitStack() as parts,
    ):
        opening = Opening(current, progress, lock=lock)
        parts.callback(opening.close)
        opening.start()
        target = current.target()
        if change is not None:
            target = change(target)
        from infrastructure.config.secrets import resolve

        secrets = resolve(target)
        opening.go_on(target)
        from infrastructure.plan.compute import compute
        from infrastructure.render import release

        if undecided(target):
            target = decided(current, target, opening.result())
        rendered = release(target, secrets)
        session = opening.result()
        observed = session.observe(rendered, verify=verify)
        plan = compute(target, rendered, observed)
        yield Planned(target, session, rendered, observed, plan)
