"""The workers of a stack and their keys. Runs on the host: standard library, Python 3.9.

They are exchanged after gangway's own services serve, one by one, and never take those with them:
a worker that ends is named, nothing is put back for it.

A worker's key is made by the bridge, and lies in `data/workers/<name>/`, which is mounted into its
container: `api-key` is a link to `key-<scope>-<id>`, so that a key and what is known of it change
in one step. The bridge knows such a key by its label; an active one that no link names is ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infrastructure.apply.host.store import sync_folder
from infrastructure.apply.host.wire import Cancelled
from infrastructure.apply.protocol import documents, encoding, events
from infrastructure.health import probes
from infrastructure.health.pressure import Budget
from infrastructure.release_files import SERVICES, WORKERS
from infrastructure.runtime.base import HostFailure
from infrastructure.runtime.containers import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from infrastructure.apply.host.health_gate import Clock
    from infrastructure.apply.host.store import Store
    from infrastructure.apply.host.wire import Wire
    from infrastructure.runtime.base import Container, Runtime
    from infrastructure.runtime.containers import Action

LABEL = "stack worker: "
LINK, KEY = "api-key", "key-"
SETTLES, POLL = 3.0, 0.25
"""Seconds for which a worker has to stay up to count as started, and between two looks."""
TAIL = 10
LIVELY = ("running", "restarting")
LATER = "the next ./deploy.py up does it"


@dataclass(frozen=True)
class Kept:
    """A key as its file is named."""

    scope: str
    id: str

    @property
    def file(self) -> str:
        return f"{KEY}{self.scope}-{self.id}"


def is_worker(name: str) -> bool:
    """Whether a service is its owner's, not gangway's."""
    return name not in SERVICES


def of_release(noted: dict[str, Any]) -> list[documents.ServiceImage]:
    """The services of a release as its note has them."""
    return encoding.read(list[documents.ServiceImage], noted.get("services", []))


class Workers:
    """Exchanges, restarts and removes workers, and keeps their keys."""

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        wire: Wire,
        services: Iterable[documents.ServiceImage],
        port: int | None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._runtime = runtime
        self._wire = wire
        self._wanted = {one.name: one for one in services if is_worker(one.name)}
        self._port = port
        self._clock: Clock = clock or time
        self._folder = store.base / "data" / WORKERS

    # --- a deploy -----------------------------------------------------------------------------
    def exchange(self, release: str, changes: Mapping[str, Action], wait: float) -> dict[str, str]:
        """What the plan says of workers; those that do not run as they should, and why.

        `wait`: seconds for which each waits for what it needs.
        """
        mine = {name: action for name, action in changes.items() if is_worker(name)}
        before = {
            one.service: one
            for one in serving(self._runtime.containers()).values()
            if is_worker(one.service)
        }
        troubles: dict[str, str] = {}
        started = []
        for name, action in mine.items():
            try:
                if action == "remove":
                    self._remove(before.get(name))
                    continue
                self._wait_for(self._wanted[name], wait)
                if action == "restart" and name in before:
                    self._say(f"starting {name}")
                    self._runtime.restart(before[name])
                else:
                    self._replace(release, self._wanted[name], before.get(name))
                started.append(name)
            except Cancelled:
                troubles[name] = f"interrupted before it was exchanged; {LATER}"
            except Exception as error:
                troubles[name] = HostFailure.of(error).message
        untouched = set(troubles)
        troubles.update(self.settle(started))
        troubles.update(self.tidy(but=untouched))
        for name, why in troubles.items():
            self._say(f"worker {name}: {why}")
        return troubles

    def _remove(self, old: Container | None) -> None:
        if old is not None:
            self._say(f"stopping {old.service}")
            self._runtime.stop([old])
            self._runtime.remove([old])

    def _replace(self, release: str, wanted: documents.ServiceImage, old: Container | None) -> None:
        """Stop-first, as with all; when the new one cannot be started, the old one goes on."""
        name = wanted.name
        key = self._kept(name)
        self._own_folder(name)
        fresh = self._runtime.create(release, [name])
        ran = old is not None and old.state in LIVELY
        try:
            if wanted.api_key:
                self.renew(name, wanted.api_key)
            if old is not None and ran:
                self._say(f"stopping {name}")
                self._runtime.stop([old])
            self._say(f"starting {name}")
            self._runtime.start(fresh)
        except Exception:
            self._put_back(name, fresh, key, old if ran else None)
            raise
        if old is not None:
            gone = [old]
            self._attempt(name, "its old container stays", lambda: self._runtime.remove(gone))
            if wanted.builds and old.image == wanted.image:  # it lost its name to one built afresh
                with contextlib.suppress(HostFailure):
                    self._runtime.drop_unnamed([old.image_id])

    def _put_back(
        self, name: str, fresh: list[Container], key: Kept | None, old: Container | None
    ) -> None:
        """The one before goes on, with its key; each step on its own, whichever fails."""
        self._attempt(name, "the new one does not stop", lambda: self._runtime.stop(fresh))
        if key is not None:
            self._attempt(name, "its key is not back", lambda: self._point(name, key))
        if old is not None:
            self._attempt(name, "it does not start again", lambda: self._runtime.start([old]))
        self._attempt(name, "the new one stays", lambda: self._runtime.remove(fresh))

    def _attempt(self, name: str, what: str, step: Callable[[], object]) -> bool:
        return self._wire.attempt(f"worker {name}: {what}", step)

    def _wait_for(self, wanted: documents.ServiceImage, wait: float) -> None:
        """Until there is what the worker needs; HostFailure when there is not."""
        budget = Budget(wait, clock=self._clock)
        while True:
            self._wire.check()
            why, hopeless = self._lacks(wanted.needs)
            if not why:
                return
            if hopeless or budget.left <= 0:
                raise HostFailure("worker-waits", f"not started, because {why}; {LATER}")
            self._clock.sleep(POLL)

    def _lacks(self, needs: str) -> tuple[str, bool]:
        """What is not there yet, and whether waiting is in vain; empty: nothing."""
        found = serving(self._runtime.containers())
        if needs == "gateway":
            gateway = found.get("gateway")
            passed = gateway is not None and gateway.running
            if gateway is not None and passed:
                passed, _ = self._runtime.probe(gateway, 10)
            return ("" if passed else "the gateway's API does not answer"), False
        if needs == "bridge-ready":
            place = self._bridge(found)
            status, body = probes.ready(*place, self._store.bridge_key()) if place else (0, 0)
            if status == 200:
                return "", False
            state = str(body.get("state", "")) if isinstance(body, dict) else ""
            said = f"/ready answers {status} {state}".rstrip() if status else "it does not answer"
            return f"the bridge is not ready ({said})", state == "halted"
        return "", False

    def settle(self, names: Collection[str]) -> dict[str, str]:
        """Which of these do not stay up for a while, and how they end.

        A while in which they ran: a slow machine takes longer to show that one ends at once.
        """
        budget = Budget(SETTLES, clock=self._clock)
        restarts: dict[str, int] = {}
        ended: dict[str, str] = {}
        while len(ended) < len(names) and budget.left > 0:
            self._clock.sleep(POLL)
            found = serving(self._runtime.containers())
            for name in names:
                one = found.get(name)
                first = restarts.setdefault(name, one.restarts if one is not None else 0)
                if name not in ended and (how := _ended(one, first)):
                    ended[name] = how + self._last_line(one)
        return ended

    def ailing(self) -> dict[str, str]:
        """Workers that end again and again, as one look shows it."""
        found = serving(self._runtime.containers())
        mine = [found[name] for name in self._wanted if name in found]
        named = {one.service: _ended(one, one.restarts) for one in mine}
        return {name: how + self._last_line(found[name]) for name, how in named.items() if how}

    def _last_line(self, container: Container | None) -> str:
        log = self._runtime.log(container, TAIL) if container is not None else ""
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        return f": {lines[-1][:200]}" if lines else ""

    # --- one worker ---------------------------------------------------------------------------
    def restart(self, container: Container) -> None:
        """Restarts it, with a new key; HostFailure when it does not stay up."""
        name = container.service
        wanted = self._wanted.get(name)
        scope = wanted.api_key if wanted is not None else ""
        self._say(f"restarting {name}")
        self._restart_with(container, scope)
        ended = self.settle([name])
        self.tidy()
        if name in ended:
            log = self._runtime.log(container, TAIL)
            raise HostFailure("worker-ends", f"worker {name} {ended[name]}", "", log)

    def _restart_with(self, container: Container, scope: str) -> None:
        """Restarts it with a new key; the one before is its own again where that fails."""
        name = container.service
        key = self._kept(name)
        if scope:
            self.renew(name, scope)
        try:
            self._runtime.restart(container)
        except Exception:
            if scope and not self._runs_anew(container):
                self._attempt(name, "its key is not back", lambda: self._point(name, key))
            raise

    def _runs_anew(self, container: Container) -> bool:
        """Whether it has restarted, whatever the engine said of it."""
        try:
            now = {one.id: one for one in self._runtime.containers()}
        except Exception:
            return False
        found = now.get(container.id, container)
        return found.running and found.since != container.since

    # --- keys ---------------------------------------------------------------------------------
    def renew(self, name: str, scope: str) -> None:
        """A new key for a worker; the one before is ended by `tidy`."""
        status, made = self._ask("POST", "/keys", {"label": f"{LABEL}{name}", "scope": scope})
        if status != 201 or not isinstance(made, dict):
            said = f"the bridge answers {status}" if status else "the bridge does not answer"
            raise HostFailure("worker-key", f"no key can be made: {said}")
        folder, kept = self._own_folder(name), Kept(scope, str(made["id"]))
        path = folder / kept.file
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{made['key']}\n")
            file.flush()
            os.fsync(file.fileno())
        _give(path, folder)
        self._point(name, kept)

    def tidy(self, *, but: Collection[str] = ()) -> dict[str, str]:
        """Ends keys that no worker has any more, mends those that are none; what is left, and why.

        `but`: workers that are as they were, whatever is wanted.
        """
        if not self._folder.is_dir():
            return {}
        folders = [path.name for path in self._folder.iterdir() if path.is_dir()]
        keyed = {name for name, one in self._wanted.items() if one.api_key or name in but}
        held = [name for name in folders if self._kept(name) is not None]
        if not held and not keyed:
            return self._drop(folders)
        status, listed = self._ask("GET", "/keys")
        if status != 200:
            gone = [name for name in held if name not in keyed]
            return dict.fromkeys(gone, f"its key is not ended yet, the bridge is silent; {LATER}")
        active = {one["id"]: one["label"] for one in listed["keys"] if one["active"]}
        left = self._mend(active, but)
        current = {kept.id for name in keyed if (kept := self._kept(name)) is not None}
        for identity, label in active.items():
            if label.startswith(LABEL) and identity not in current:
                name = label[len(LABEL) :]
                status, _ = self._ask("DELETE", f"/keys/{identity}")
                if status not in (204, 404):
                    left[name] = f"its key is not ended yet; {LATER}"
        return {**left, **self._drop([name for name in folders if name not in left])}

    def _mend(self, active: Mapping[str, str], but: Collection[str]) -> dict[str, str]:
        """A worker whose key the bridge does not take any more gets another, and is restarted.

        Those that go on with a key that is none, and why.
        """
        left: dict[str, str] = {}
        running = serving(self._runtime.containers())
        for name, wanted in self._wanted.items():
            one, kept = running.get(name), self._kept(name)
            if not wanted.api_key or name in but or one is None or one.state not in LIVELY:
                continue
            if kept is None or kept.id not in active:
                self._say(f"{name} gets another key: the bridge does not know its own any more")
                try:
                    self._restart_with(one, wanted.api_key)
                except Exception as error:
                    left[name] = f"it has no key that counts: {HostFailure.of(error)}; {LATER}"
        return left

    def _drop(self, names: Iterable[str]) -> dict[str, str]:
        """Removes key files that are none any more, and folders of workers that have gone."""
        for name in names:
            folder = self._folder / name
            if name not in self._wanted:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            kept = self._kept(name)
            for path in folder.glob(f"{KEY}*"):
                if kept is None or path.name != kept.file:
                    path.unlink()
            if not self._wanted[name].api_key and kept is not None:
                (folder / LINK).unlink()
                (folder / kept.file).unlink()
        return {}

    def _kept(self, name: str) -> Kept | None:
        """The key that a worker has; None: none."""
        try:
            named = (self._folder / name / LINK).readlink().name
        except OSError:
            return None
        scope, _, identity = named[len(KEY) :].partition("-")
        return Kept(scope, identity)

    def _point(self, name: str, kept: Kept | None) -> None:
        """Makes a key the worker's; None: it has none."""
        fresh = self._folder / name / f".{LINK}"
        fresh.unlink(missing_ok=True)
        if kept is None:
            (self._folder / name / LINK).unlink(missing_ok=True)
        else:
            fresh.symlink_to(kept.file)
            fresh.replace(self._folder / name / LINK)
        sync_folder(self._folder / name)  # before the bridge forgets the key of before

    def _own_folder(self, name: str) -> Path:
        """The worker's folder, which its container's user may read, as the bridge's is."""
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        _give(folder, self._store.base / "data" / "bridge")
        return folder

    # --- the bridge ---------------------------------------------------------------------------
    def _bridge(self, found: Mapping[str, Container]) -> tuple[str, int] | None:
        container = found.get("bridge")
        return probes.reach(container, self._port) if container is not None else None

    def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        place = self._bridge(serving(self._runtime.containers()))
        if place is None:
            return 0, None
        key = self._store.bridge_key()
        return probes.bridge(*place, path, key, 10.0, method=method, body=body)

    def _say(self, text: str) -> None:
        self._wire.emit(events.Step(text))


def _ended(container: Container | None, restarts: int) -> str:
    """How a worker does not run; empty when it does, or has done what it had to do."""
    if container is None:
        return "has no container"
    code = "" if container.exit_code is None else f" (exit code {container.exit_code})"
    if container.state in ("restarting", "dead") or container.restarts > restarts:
        return f"ends again and again{code}"
    if container.state == "exited" and container.exit_code:
        return f"has ended{code}"
    return ""


def _give(path: Path, like: Path) -> None:
    """Gives a file or folder the owner of another."""
    wanted, now = like.stat(), path.stat()
    if (now.st_uid, now.st_gid) != (wanted.st_uid, wanted.st_gid):
        os.chown(path, wanted.st_uid, wanted.st_gid)
