"""Puts a release into service, or leaves the previous one serving.

Runs on the host: standard library, Python 3.9. Stop-first: an account has one session, so the old
gateway stops before the new one starts; its container is kept, stopped, until all is healthy.
"""

from __future__ import annotations

import contextlib
import functools
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
from infrastructure.runtime.containers import mounted_releases, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
NOTHING_BEFORE = "Nothing ran before it: ./deploy.py status shows what was left running."
STOPPABLE = ("running", "restarting", "paused")


@dataclass
class Swap:
    """Which containers a deploy replaces, and by what.

    `before` serve now; `back` are what has to serve again when the deploy fails: the same, but
    after a deploy that was killed, where they are those of the release before that one. `held` are
    the ones of `back` that do not serve now; they stay until the new release serves.
    """

    before: dict[str, Container]
    replaced: list[str]
    restarted: list[str]
    removed: list[str]
    back: dict[str, Container] = field(default_factory=dict)
    held: list[Container] = field(default_factory=list)
    fresh: list[Container] = field(default_factory=list)
    stopped: list[Container] = field(default_factory=list)

    @classmethod
    def plan(
        cls,
        before: dict[str, Container],
        changes: dict[str, Action],
        back: dict[str, Container] | None = None,
    ) -> Swap:
        """From `{service: action}` of the plan; workers are exchanged when all of it serves.

        `back`: what serves again when it fails, where that is not what serves now.
        """
        served = {one.id for one in before.values()}
        held = [one for one in (back or {}).values() if one.id not in served]
        own = [name for name in changes if not is_worker(name)]
        ordered = sorted(own, key=lambda name: START_ORDER[name])
        return cls(
            before,
            [name for name in ordered if changes[name] in ("create", "update")],
            [name for name in ordered if changes[name] == "restart"],
            [name for name in ordered if changes[name] == "remove"],
            back or dict(before),
            held,
        )

    def served(self) -> bool:
        """Whether anything ran that can serve again."""
        own = (one for name, one in self.back.items() if not is_worker(name))
        return bool(self.to_start()) or any(one.state in STOPPABLE for one in own)

    def to_start(self) -> list[Container]:
        """Of what has to serve again, what does not run any more, or not since a killed deploy."""
        idle = {one.id for one in (*self.stopped, *self.held)}
        found = [one for name, one in self.back.items() if one.id in idle and not is_worker(name)]
        return sorted(found, key=lambda one: START_ORDER[one.service])


class Deploy:
    """One deploy, from the unpacked release to healthy or restored."""

    def __init__(self, store: Store, runtime: Runtime, wire: Wire, request: ApplyRequest) -> None:
        self._store = store
        self._runtime = runtime
        self._wire = wire
        self._request = request
        self._release = request.release
        self._began = time.monotonic()
        self._previous = self._serves = store.current()
        """Which release is put back when it fails, and from which the containers run."""
        self._goes_on = store.proven(but=None) == self._serves
        """Whether what a part of the stack is exchanged in was seen to be healthy as a whole."""
        self._then = NOT_RESTORED
        self._amiss: list[str] = []
        """What failed on the way back: the marker of a deploy under way stays then."""
        self._taken: dict[str, str] = {}
        """Of an upgrade: the digest of each image that was given a name, by that."""
        self._alarm = Alarm(store, runtime, wire, request.checks)

    def run(self) -> events.Done:
        """The outcome for the client; HostFailure (`restored` in its record) when it failed."""
        changes = self._request.changes
        self._runtime.check()
        try:
            self._obtain(changes)
        except Exception:
            self._wire.attempt("an image has not its name back", self._take_builds_back)
            raise
        swap = self._tidied(changes)
        self._store.begin(release=self._release, previous=self._previous, by=self._request.by)
        try:
            return self._swap_and_wait(swap)
        finally:
            if not self._amiss:
                self._end_marker()

    def _obtain(self, changes: dict[str, Action]) -> None:
        """All images that it starts from are on the host."""
        services = [vars(item) for item in self._request.services if changes.get(item.name)]
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

    def _take_builds_back(self) -> None:
        """A rebuild gave the name of what serves to a build that nothing will be started from."""
        builds = {one.name for one in self._request.services if one.builds}
        for name, old in serving(self._runtime.containers()).items() if builds else ():
            built = self._runtime.image(old.image).get("id") if name in builds else None
            if built and old.image_id and built != old.image_id:
                self._runtime.rename_image(old.image_id, old.image)
                self._runtime.drop_unnamed([built])

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
            raise self._interrupted(swap) from None
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
        pin(self._store, self._runtime, self._release)
        return self._outcome("healthy", healthy=True, workers=troubles)

    def _interrupted(self, swap: Swap) -> HostFailure:
        """Somebody asked to stop; who is told what, where the way back failed."""
        stop = HostFailure("interrupted", "interrupted")
        stop.restored = self._put_back(swap, "")
        self._outcome("interrupted", healthy=False, restored=stop.restored)
        if not stop.restored:
            stop.hint = self._then
            if self._then != NOTHING_BEFORE:
                stop.message += "; not all is as it was before"
                self._told(stop)
        return stop

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
            self._taken[name] = self._runtime.image(name).get("digest") or digest or image_id

    @property
    def _whole(self) -> bool:
        """Whether the gate says of all of the stack that it is healthy, not only of a part."""
        gate = self._request.gate
        return gate is None or bool(gate.get("bridge")) or self._goes_on

    # --- steps --------------------------------------------------------------------------------
    def _tidied(self, changes: dict[str, Action]) -> Swap:
        """One container a service, but for those to which a failure of this deploy goes back.

        A deploy that was killed may have left a release that never was healthy, and the one before
        it stopped: that one is kept until the new one serves.
        """
        found = self._runtime.containers()
        before, back = serving(found), self._before_a_killed_one(found)
        if back:
            back |= {name: one for name, one in before.items() if is_worker(name)}
        kept = {one.id for one in (*before.values(), *back.values())}
        discard(self._runtime, self._wire, [one for one in found if one.id not in kept])
        return Swap.plan(before, changes, back)

    def _before_a_killed_one(self, found: list[Container]) -> dict[str, Container]:
        """The containers of the release before a deploy that was killed, if all are there still."""
        previous = (self._store.pending() or {}).get("previous")
        wanted = self._store.manifest(previous).get("services", {})
        own = {name: mark for name, mark in wanted.items() if not is_worker(name)}
        if not previous or not own:
            return {}
        back: dict[str, Container] = {}
        for one in sorted(found, key=lambda one: one.number):
            if own.get(one.service) == one.hash:
                back.setdefault(one.service, one)
        if back.keys() != own.keys():
            return {}
        self._previous = previous
        return back

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
        for old in (swap.before.get(name), *(one for one in swap.held if one.service == name)):
            if old is None or old.state not in STOPPABLE:
                continue
            if name == "gateway":
                self._end(old, self._store.noted(self._serves or "").get("checks", {}))
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
        self._end_marker()  # first: a deploy that is killed from here on has nothing to go back to
        try:
            self._commit(swap)
        except Exception as error:
            what = "not all that it replaced could be removed"
            self._say(f"{what}, the next deploy tries again: {HostFailure.of(error)}")

    def _commit(self, swap: Swap) -> None:
        """What the new release replaced goes."""
        names = {*swap.removed, *(container.service for container in swap.fresh)}
        replaced = [old for name, old in swap.before.items() if name in names]
        self._runtime.remove([*replaced, *swap.held])
        self._prune()
        with contextlib.suppress(HostFailure):
            if rebuilt := self._rebuilt(swap.before, swap.fresh):
                self._runtime.drop_unnamed([one.image_id for one in rebuilt])

    def _refuse(self, failure: HostFailure) -> None:
        """An upgrade that failed is not offered again by itself.

        Only of an image whose service was seen to fail: of a host that is short of something, an
        engine that hangs or a port that is taken nothing follows for what was pulled.
        """
        if self._request.command != "upgrade" or failure.code in LOGIN_TROUBLES:
            return
        failed = [one for one in self._request.services if _speaks_of(one.name, failure.code)]
        taken = {one.image for one in failed}.intersection(self._taken)
        services = {one.image: one.name for one in self._request.services}
        if [services.get(name) for name in self._taken] == ["gateway"] and failed:
            taken = set(self._taken)  # the bridge fails because the one new gateway lets it down
        with contextlib.suppress(Exception):
            for name in taken:
                self._store.refuse(self._taken[name], failure.message[:200])

    def _rebuilt(self, before: dict[str, Container], made: Sequence[Container]) -> list[Container]:
        """The old containers whose image lost its name to one that was built afresh."""
        builds = {one.name for one in self._request.services if one.builds}
        fresh = {one.service: one for one in made if one.service in builds}
        return [
            old
            for name, old in before.items()
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

    # --- the way back ---------------------------------------------------------------------------
    def _put_back(self, swap: Swap, code: str) -> bool:
        """Whether the previous release serves again; what fails on the way is told and recorded."""
        try:
            restored = self._restore(swap, code)
        except Exception as error:
            self._amiss.append(str(HostFailure.of(error)))
            restored = False
        if self._amiss:
            why = "; ".join(self._amiss)
            self._say(f"the previous release could not be put back: {why}")
            self._then = f"Not all could be put back ({why}): ./deploy.py status shows what runs."
        return restored

    def _restore(self, swap: Swap, code: str) -> bool:
        """Puts the previous release back, and says whether it serves again as before.

        Each step on its own: whichever fails, all else of the release is tried.
        """
        if not swap.served():
            return self._abandon(swap, code)
        self._say("restoring the previous release")
        fresh = self._not_of(swap)
        still = [one for one in fresh if not self._stopped(one, code)]
        self._link_back([one for one in fresh if one not in still])
        failed = self._start_again(swap, code, still)
        self._remove([one for one in fresh if one.service not in failed and one not in still])
        self._wire.attempt(
            "an image has not its name back", lambda: self._put_names_back(swap, fresh)
        )
        return not self._amiss and self._verify(swap, code)

    def _not_of(self, swap: Swap) -> list[Container]:
        """All containers that are not to serve again; those that we know where the engine fails."""
        found = [*swap.before.values(), *swap.fresh]
        try:
            found = self._runtime.containers()
        except Exception as error:
            self._say(f"the containers cannot be listed: {HostFailure.of(error)}")
        kept = {one.id for one in swap.back.values()}
        return [one for one in found if one.id not in kept and not is_worker(one.service)]

    def _stopped(self, one: Container, code: str) -> bool:
        """Stops a container; whether it is certain that it does not run any more."""
        if one.service == "gateway" and not _harmful(one, code):
            checks = self._request.checks
            self._wire.attempt("the gateway is only stopped", lambda: self._end(one, checks))
        try:
            self._runtime.stop([one])
        except Exception as error:
            if not self._gone(one, error):
                self._amiss.append(f"{one.service} did not stop: {HostFailure.of(error)}")
                return False
        return True

    def _gone(self, one: Container, error: Exception) -> bool:
        """Whether a container that could not be stopped does not run all the same."""
        if "no such container" in str(error).lower():
            return True
        try:
            now = {found.id: found for found in self._runtime.containers()}
        except Exception:
            return False
        return one.id not in now or now[one.id].state not in STOPPABLE

    def _link_back(self, stopped: list[Container]) -> None:
        """`current` names the previous release again; a full disk gets some room first."""
        try:
            self._store.switch(self._previous)
        except Exception:
            self._remove(stopped)
            self._try("`current`", lambda: self._store.switch(self._previous))

    def _start_again(self, swap: Swap, code: str, still: list[Container]) -> set[str]:
        """Starts what served before, each on its own; the services that did not start."""
        failed = set()
        for one in swap.to_start():
            if _harmful(one, code):
                continue
            if one.service == "gateway" and any(other.service == "gateway" for other in still):
                self._amiss.append("gateway not started, as the new one may run: one login")
                failed.add(one.service)
            elif not self._try(one.service, functools.partial(self._runtime.start, [one])):
                failed.add(one.service)
        return failed

    def _remove(self, containers: list[Container]) -> None:
        for one in containers:
            remove = functools.partial(self._runtime.remove, [one])
            self._wire.attempt(f"{one.service} could not be removed", remove)

    def _try(self, what: str, step: Callable[[], object]) -> bool:
        """One step of the way back; what fails is kept, for the next one to be tried."""
        try:
            step()
        except Exception as error:
            self._amiss.append(f"{what}: {HostFailure.of(error)}")
            return False
        return True

    def _put_names_back(self, swap: Swap, fresh: list[Container]) -> None:
        """A rebuild gave the old image's name to one that failed: nothing may start from that."""
        rebuilt = self._rebuilt(swap.back, fresh)
        for one in rebuilt:
            self._runtime.rename_image(one.image_id, one.image)
        if rebuilt:
            self._runtime.drop_unnamed([one.image_id for one in fresh])
        for one in swap.back.values():
            if one.image in self._request.images:
                self._runtime.rename_image(one.image_id, one.image)

    def _abandon(self, swap: Swap, code: str) -> bool:
        """Nothing ran before: what runs now is left for a look, but for a harmful gateway.

        A login that somebody has approved is not thrown away where there is nothing to go back to:
        on a first deploy, after `down`, on a host from which or to which the stack was moved.
        """
        self._then = NOTHING_BEFORE
        if not self._runtime.login_facts():  # else the container itself tries nothing any more
            self._runtime.stop([one for one in swap.fresh if _harmful(one, code)])
        return False

    def _verify(self, swap: Swap, code: str) -> bool:
        """The same images and the same configuration run as before, and answer."""
        now = serving(self._runtime.containers())
        for name, was in swap.back.items():
            found = now.get(name)
            if found is None or (found.image_id, found.hash) != (was.image_id, was.hash):
                self._say(f"{name} is not what it was before")
                return False
        again = swap.to_start()
        if any(_harmful(one, code) for one in again):
            self._then = "The previous release was put back, but for its gateway, which is stopped."
            return False
        ran = {one.id for one in swap.back.values() if one.running} | {one.id for one in again}
        running = [name for name, was in swap.back.items() if was.id in ran and not is_worker(name)]
        if not running:
            self._then = "The previous release was put back, which did not serve before either."
            return False
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
        touched = any(one.service == "gateway" for one in swap.to_start())
        if touched or swap.back["gateway"].health == "healthy":
            wanted: Checks = {"gateway": {"twoFactorWait": 0, "sessions": sessions}}
            self._gate(wanted, RESTORED_WITHIN, RESTORE_STRETCH)

    # --- telling ------------------------------------------------------------------------------
    def _told(self, failure: HostFailure) -> None:
        """People who are not here hear of it."""
        then = RESTORED if failure.restored else self._then
        what = f"`{self._request.command}` of release {self._release}"
        self._alarm.failed(what, self._request.by, failure, then)

    def _end_marker(self) -> None:
        self._wire.attempt("the deploy stays marked as under way", self._store.end)

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
        self._wire.attempt(  # a full disk must not hide the outcome itself
            "it is not in the history",
            lambda: self._store.record(
                command=self._request.command,
                release=self._release,
                previous=self._previous,
                result=result,
                restored=restored,
                reason=reason,
                by=self._request.by,
                seconds=seconds,
                changes=self._request.changes,
                whole=self._whole,
            ),
        )
        return events.Done(
            *(result, self._release, healthy, restored, seconds), workers=workers or {}
        )


def _speaks_of(service: str, code: str) -> bool:
    """Whether a failure is that of this service, as the health gate names it."""
    own = (f"{service}-unhealthy", f"{service}-ended")
    return code in own or (service == "gateway" and code in ("jvm-flags", "read-only-gateway"))


def _harmful(container: Container, code: str) -> bool:
    return container.service == "gateway" and code in LOGIN_TROUBLES


def discard(runtime: Runtime, wire: Wire, containers: Sequence[Container]) -> None:
    """Removes what a killed deploy left; what stays is told, and stops nobody.

    Only a gateway that runs on is one too many: it and the next one would share a login.
    """
    for one in containers:
        try:
            runtime.remove([one])
        except Exception as error:
            if one.service == "gateway" and one.state in STOPPABLE:
                raise
            failure = HostFailure.of(error)
            wire.emit(events.Step(f"an old container of {one.service} stays: {failure}"))


def pin(store: Store, runtime: Runtime, release: str) -> None:
    """A name can move: the release keeps which images it was healthy with."""
    with contextlib.suppress(Exception):
        serves = serving(runtime.containers())
        images = {one.image: one.image_id for one in serves.values() if one.image_id}
        store.pin(release, images)
