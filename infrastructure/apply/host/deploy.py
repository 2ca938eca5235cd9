"""Puts a release into service, or leaves the previous one serving.

Runs on the host: standard library, Python 3.9. Stop-first: an account has one session, so the old
gateway stops before the new one starts; its container is kept, stopped, until all is healthy.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge.login.states import HELD_CODES
from infrastructure.apply.host import parking
from infrastructure.apply.host.alarm import Alarm
from infrastructure.apply.host.health_gate import Gate, WaitingForPerson
from infrastructure.apply.host.wire import Cancelled
from infrastructure.apply.host.workers import Workers, is_worker
from infrastructure.apply.protocol import documents, events
from infrastructure.runtime.base import Container, HostFailure
from infrastructure.runtime.containers import leftovers, mounted_releases, serving

if TYPE_CHECKING:
    from infrastructure.apply.host.store import Store
    from infrastructure.apply.host.wire import Wire
    from infrastructure.apply.protocol.documents import Checks
    from infrastructure.apply.protocol.requests import ApplyRequest
    from infrastructure.runtime.base import Runtime
    from infrastructure.runtime.containers import Action

START_ORDER = {"gateway": 0, "portal": 1, "bridge": 2, "caddy": 3}
LOGIN_TROUBLES = set(HELD_CODES)
"""After these no gateway is started, of whatever release: one more attempt may lock the account,
or take a session that was left to another side."""
RESTORED_WITHIN, RESTORE_STRETCH = 120.0, 5.0
"""Seconds until what served before answers again, and how far a busy machine stretches them."""
RESTORED = "The previous release serves again."
NOT_RESTORED = "Nothing could be put back: ./deploy.py status shows what runs."


@dataclass
class Swap:
    """Which containers a deploy replaces, and by what."""

    before: dict[str, Container]
    replaced: list[str]
    restarted: list[str]
    removed: list[str]
    fresh: list[Container] = field(default_factory=list)
    stopped: list[Container] = field(default_factory=list)

    @classmethod
    def plan(cls, before: dict[str, Container], changes: dict[str, Action]) -> Swap:
        """From `{service: action}` of the plan; workers are exchanged when all of it serves."""
        own = [name for name in changes if not is_worker(name)]
        ordered = sorted(own, key=lambda name: START_ORDER[name])
        return cls(
            before,
            [name for name in ordered if changes[name] in ("create", "update")],
            [name for name in ordered if changes[name] == "restart"],
            [name for name in ordered if changes[name] == "remove"],
        )


class Deploy:
    """One deploy, from the unpacked release to healthy or restored."""

    def __init__(self, store: Store, runtime: Runtime, wire: Wire, request: ApplyRequest) -> None:
        self._store = store
        self._runtime = runtime
        self._wire = wire
        self._request = request
        self._release = request.release
        self._began = time.monotonic()
        self._previous = store.current()
        self._then = NOT_RESTORED
        self._taken: list[str] = []
        self._alarm = Alarm(store, runtime, wire, request.checks)

    def run(self) -> events.Done:
        """The outcome for the client; HostFailure (`restored` in its record) when it failed."""
        changes = self._request.changes
        services = [vars(item) for item in self._request.services if changes.get(item.name)]
        self._runtime.check()
        self._runtime.obtain(self._release, services, self._wire.tell)
        try:
            self._wire.check()
        except Cancelled:
            raise HostFailure("interrupted", "interrupted; nothing was changed") from None
        for name, image_id in self._request.images.items():
            if not self._runtime.image(image_id).get("id"):
                raise HostFailure(
                    "image-gone",
                    f"the image that {name} stood for is no longer on the host ({image_id[:19]})",
                    "./deploy.py up takes what the name stands for now",
                )
        swap = Swap.plan(self._tidy(), changes)
        self._store.begin(release=self._release, previous=self._previous, by=self._request.by)
        try:
            return self._swap_and_wait(swap)
        finally:
            self._store.end()

    def _swap_and_wait(self, swap: Swap) -> events.Done:
        try:
            self._swap(swap)
            gate = self._request.gate
            wanted = self._request.checks if gate is None else gate
            self._gate(wanted, self._request.wait, self._request.stretch)
        except WaitingForPerson as waiting:
            self._settle(swap)
            troubles = self._workers(0)
            outcome = self._outcome("waiting-2fa", healthy=False, workers=troubles)
            outcome.told, outcome.hint = waiting.told, waiting.hint
            return outcome
        except Cancelled:
            stop = HostFailure("interrupted", "interrupted")
            stop.restored = self._put_back(swap, "")
            self._outcome("interrupted", healthy=False, restored=stop.restored)
            raise stop from None
        except Exception as error:  # also a bug of ours: what served before has to serve again
            failure = HostFailure.of(error)
            failure.restored = self._put_back(swap, failure.code)
            self._refuse(failure)
            self._outcome(
                "failed", healthy=False, restored=failure.restored, reason=failure.message
            )
            self._told(failure)
            raise failure from None
        self._settle(swap)
        troubles = self._workers(self._request.wait)
        self._pin()
        return self._outcome("healthy", healthy=True, workers=troubles)

    def _workers(self, wait: float) -> dict[str, str]:
        """Exchanges the workers; whatever becomes of one, what serves goes on."""
        request = self._request
        port = request.checks.get("bridge", {}).get("port")
        workers = Workers(self._store, self._runtime, self._wire, request.services, port)
        try:
            return workers.exchange(self._release, request.changes, wait)
        except Exception as error:
            failure = HostFailure.of(error)
            self._say(f"the workers were not all exchanged: {failure}")
            mine = [name for name in request.changes if is_worker(name)]
            return dict.fromkeys(mine, str(failure))

    def _name_images(self) -> None:
        """Gives names to the images that they shall stand for; `_put_names_back` undoes it."""
        for name, image_id in self._request.images.items():
            digest = self._runtime.image(image_id).get("digest")
            self._runtime.rename_image(image_id, name)
            self._taken.append(self._runtime.image(name).get("digest") or digest or image_id)

    def _pin(self) -> None:
        """A name can move: the release keeps which images it was healthy with."""
        with contextlib.suppress(HostFailure, OSError):
            serves = serving(self._runtime.containers())
            images = {one.image: one.image_id for one in serves.values() if one.image_id}
            self._store.pin(self._release, images)

    # --- steps --------------------------------------------------------------------------------
    def _tidy(self) -> dict[str, Container]:
        """One container a service: what a killed deploy left beside it is removed."""
        found = self._runtime.containers()
        self._runtime.remove(leftovers(found))
        return serving(found)

    def _swap(self, swap: Swap) -> None:
        self._store.touch(self._release)
        self._store.switch(self._release)
        self._name_images()
        if swap.replaced:
            swap.fresh = self._runtime.create(self._release, swap.replaced)
        fresh = {container.service: container for container in swap.fresh}
        for name in swap.removed:
            self._stop(swap, name)
        for name in swap.replaced:
            self._wire.check()
            self._stop(swap, name)
            self._say(f"starting {name}")
            if name == "gateway":
                self._runtime.begin_afresh(fresh[name], cold=False)
            self._runtime.start([fresh[name]])
        for name in swap.restarted:
            self._wire.check()
            self._say(f"restarting {name}")
            if name == "gateway":
                self._runtime.begin_afresh(swap.before[name], cold=False)
            self._runtime.restart(swap.before[name])

    def _stop(self, swap: Swap, name: str) -> None:
        old = swap.before.get(name)
        if old is None or old.state not in ("running", "restarting", "paused"):
            return
        if name == "gateway":
            self._end(old, self._store.noted(self._previous or "").get("checks", {}))
        self._say(f"stopping {name}")
        swap.stopped.append(old)
        self._runtime.stop([old])

    def _end(self, gateway: Container, checks: documents.Checks) -> None:
        """The gateway ends as the release says that it runs from, whose checks these are."""
        check = checks.get("gateway", {})
        parking.end(self._runtime, self._wire, gateway, check, keep=self._request.keep)

    def _gate(self, checks: Checks, seconds: float, stretch: float) -> None:
        Gate(
            self._runtime,
            self._wire,
            checks,
            seconds,
            on_waiting=self._alarm.waiting,
            key=self._store.bridge_key,
            stretch=stretch,
        ).run()

    def _settle(self, swap: Swap) -> None:
        """The new release serves, also where what it replaced cannot be removed."""
        try:
            self._commit(swap)
        except Exception as error:
            what = "not all that it replaced could be removed"
            self._say(f"{what}, the next deploy tries again: {HostFailure.of(error)}")

    def _commit(self, swap: Swap) -> None:
        """What the new release replaced goes."""
        names = {*swap.removed, *(container.service for container in swap.fresh)}
        self._runtime.remove([old for name, old in swap.before.items() if name in names])
        self._prune()
        with contextlib.suppress(HostFailure):
            if rebuilt := self._rebuilt(swap):
                self._runtime.drop_unnamed([one.image_id for one in rebuilt])

    def _refuse(self, failure: HostFailure) -> None:
        """An upgrade that failed is not offered again by itself."""
        says_nothing = {*LOGIN_TROUBLES, "unexpected"}  # of the image itself
        if self._request.command == "upgrade" and failure.code not in says_nothing:
            with contextlib.suppress(HostFailure, OSError):
                for digest in self._taken:
                    self._store.refuse(digest, failure.message[:200])

    def _rebuilt(self, swap: Swap) -> list[Container]:
        """The old containers whose image lost its name to one that was built afresh."""
        builds = {one.name for one in self._request.services if one.builds}
        fresh = {one.service: one for one in swap.fresh if one.service in builds}
        return [
            old
            for name, old in swap.before.items()
            if name in fresh
            and old.image == fresh[name].image
            and old.image_id != fresh[name].image_id
        ]

    def _prune(self) -> None:
        """Old releases and images; where mounts cannot be seen, all releases stay."""
        running = [one.pid for one in self._runtime.containers() if one.pid]
        mounted = mounted_releases(running)
        before = self._built()
        if mounted is not None:
            self._store.prune(mounted)
        self._store.prune_gateway()
        self._prune_images({image.rpartition(":")[0] for image in before})

    def _built(self) -> list[str]:
        """The images that we built for any release that is kept."""
        noted = [self._store.noted(name) for name in self._store.kept()]
        built = [one for note in noted for one in note.get("services", ()) if one["builds"]]
        return [one["image"] for one in built]

    def _prune_images(self, repositories: set[str]) -> None:
        """Images that we built and no kept release names any more; others are not ours to judge."""
        kept = self._built()
        for repository in sorted(repositories):
            with contextlib.suppress(HostFailure):
                self._runtime.prune_images(repository, kept)

    def _put_back(self, swap: Swap, code: str) -> bool:
        """Whether the previous release serves again; what fails on the way is told and recorded."""
        try:
            return self._restore(swap, code)
        except Exception as error:
            failure = HostFailure.of(error)
            self._say(f"the previous release could not be put back: {failure}")
            self._then = f"{NOT_RESTORED} ({failure})"
            return False

    def _restore(self, swap: Swap, code: str) -> bool:
        """Puts the previous release back, and says whether it serves again as before."""
        self._say("restoring the previous release" if self._previous else "stopping")
        if self._previous is None and not swap.before:
            return self._abandon(swap, code)
        kept = {one.id for one in swap.before.values()}
        fresh = [one for one in self._runtime.containers() if one.id not in kept]
        for one in fresh:
            if one.service == "gateway" and not _harmful(one, code):
                self._end(one, self._request.checks)
        self._runtime.stop(fresh)
        self._store.switch(self._previous)
        old = [one for one in swap.stopped if not _harmful(one, code)]
        old.sort(key=lambda one: START_ORDER[one.service])
        self._runtime.start(old)
        self._runtime.remove(fresh)
        self._put_names_back(swap, fresh)
        return self._verify(swap, code)

    def _put_names_back(self, swap: Swap, fresh: list[Container]) -> None:
        """A rebuild gave the old image's name to one that failed: nothing may start from that."""
        rebuilt = self._rebuilt(swap)
        with contextlib.suppress(HostFailure):
            for one in rebuilt:
                self._runtime.rename_image(one.image_id, one.image)
            if rebuilt:
                self._runtime.drop_unnamed([one.image_id for one in fresh])
            for one in swap.before.values():
                if one.image in self._request.images:
                    self._runtime.rename_image(one.image_id, one.image)

    def _abandon(self, swap: Swap, code: str) -> bool:
        """There was nothing before: what runs is left for a look, but for a harmful gateway."""
        if not self._runtime.login_facts():  # else the container itself tries nothing any more
            self._runtime.stop([one for one in swap.fresh if _harmful(one, code)])
        return False

    def _verify(self, swap: Swap, code: str) -> bool:
        """The same images and the same configuration run as before, and answer."""
        now = serving(self._runtime.containers())
        for name, was in swap.before.items():
            found = now.get(name)
            if found is None or (found.image_id, found.hash) != (was.image_id, was.hash):
                self._say(f"{name} is not what it was before")
                return False
        if any(_harmful(one, code) for one in swap.stopped):
            self._then = "The previous release was put back, but for its gateway, which is stopped."
            return False
        running = [name for name, was in swap.before.items() if was.running and not is_worker(name)]
        checks: Checks = {name: {} for name in running if name != "gateway"}
        try:
            self._gate(checks, RESTORED_WITHIN, RESTORE_STRETCH)
            if "gateway" in running:
                self._verify_login(swap)
        except (HostFailure, WaitingForPerson, Cancelled) as failure:
            self._say(f"the previous release does not answer: {failure}")
            self._then = f"The previous release was put back, but does not serve yet: {failure}."
            return False
        return True

    def _verify_login(self, swap: Swap) -> None:
        """A gateway that was stopped has to log in anew, which may need a person."""
        sessions = self._request.checks.get("gateway", {}).get("sessions", [])
        touched = any(one.service == "gateway" for one in swap.stopped)
        if touched or swap.before["gateway"].health == "healthy":
            wanted: Checks = {"gateway": {"twoFactorWait": 0, "sessions": sessions}}
            self._gate(wanted, RESTORED_WITHIN, RESTORE_STRETCH)

    # --- telling ------------------------------------------------------------------------------
    def _told(self, failure: HostFailure) -> None:
        """People who are not here hear of it."""
        then = RESTORED if failure.restored else self._then
        what = f"`{self._request.command}` of release {self._release}"
        self._alarm.failed(what, self._request.by, failure, then)

    def _say(self, text: str) -> None:
        self._wire.emit(events.Step(text))

    def _outcome(
        self,
        result: str,
        *,
        healthy: bool,
        restored: bool = False,
        reason: str = "",
        workers: dict[str, str] | None = None,
    ) -> events.Done:
        seconds = round(time.monotonic() - self._began, 1)
        with contextlib.suppress(HostFailure):  # a full disk must not hide the outcome itself
            self._store.record(
                command=self._request.command,
                release=self._release,
                previous=self._previous,
                result=result,
                restored=restored,
                reason=reason,
                by=self._request.by,
                seconds=seconds,
                changes=self._request.changes,
            )
        return events.Done(
            *(result, self._release, healthy, restored, seconds), workers=workers or {}
        )


def _harmful(container: Container, code: str) -> bool:
    return container.service == "gateway" and code in LOGIN_TROUBLES
