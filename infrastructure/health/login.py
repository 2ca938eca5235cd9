"""The logins of a gateway's container, as the host sees them. Standard library, Python 3.9.

What the container has written down comes first: it knows each session, and launcher.log. Where it
has written nothing (an image without our hooks), the container's log is read instead, which with
two sessions in it cannot tell them apart. Both are judged by `bridge.login`.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import time
from typing import TYPE_CHECKING

from bridge.login import states
from bridge.login.lines import events
from bridge.login.model import Login, replay
from infrastructure.health.explain import of_java

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from infrastructure.runtime.base import Container

_WORST_FIRST = (
    states.HELD,
    states.BLOCKED,
    states.WAITING_2FA,
    states.WAITING_BROKER,
    states.STOPPED,
    states.UNKNOWN,
    states.STARTING,
    states.RESTARTING,
    states.LOGGING_IN,
    states.LOGGED_IN,
)
_TELLING = re.compile(
    r"gangway: |IBC returned exit status|[Ee]rror|[Ee]xception|OutOfMemory|exit code"
)
_SECONDS = re.compile(r"([0-9]{1,11})[0-9]*(?: |$)")
"""When a line was written, cut: nobody writes numbers of thousands of digits on purpose."""
EXCERPT = 25


class Logins:
    """The sessions of one container, from a moment on (seconds since 1970).

    `kept`: the gateway was logged in and restarts inside its container.
    """

    def __init__(self, sessions: Sequence[str], since: float = 0.0, *, kept: bool = False) -> None:
        self._sessions = list(sessions) or ["paper"]
        self._since = since
        self._kept = kept
        self._by_log = self._fresh(self._sessions[0])
        self._by_facts: dict[str, Login] = {}

    @property
    def written(self) -> bool:
        """Whether the container writes down: then it holds a hopeless login by itself."""
        return bool(self._by_facts)

    def _fresh(self, session: str) -> Login:
        login = Login(session)
        if self._kept:
            login.resume(self._since)
        return login

    def feed(self, line: str, at: float) -> None:
        """Takes a line of the container's log."""
        self._by_log.feed(line, at)

    def read(self, facts: Mapping[str, str]) -> None:
        """Takes what the container has written down, by session; older lines do not count."""
        for session in self._sessions:
            lines = [line for line in facts.get(session, "").splitlines() if self._counts(line)]
            if lines:
                login = self._fresh(session)
                self._by_facts[session] = replay("\n".join(lines), into=login)

    def _counts(self, line: str) -> bool:
        found = _SECONDS.match(line)
        return found is not None and int(found[1]) >= int(self._since)

    def all(self, now: float) -> list[Login]:
        """Every session's login at this moment."""
        if self._by_facts:
            found = [self._by_facts.get(one) or self._fresh(one) for one in self._sessions]
        else:
            found = [self._by_log]
        for login in found:
            login.look(now)
        return found

    def worst(self, now: float) -> Login:
        """The session that is farthest from logged in."""
        return farthest(self.all(now))


def farthest(logins: Sequence[Login]) -> Login:
    """The one that is farthest from logged in."""
    return min(logins, key=lambda login: _WORST_FIRST.index(login.state))


_STALE_SECONDS = 90.0
"""So long a container may be called healthy after its API has gone: three checks, 15 s apart, each
with its time to answer."""


def of_container(
    container: Container | None,
    facts: Mapping[str, str],
    log: Iterable[str],
    sessions: Sequence[str],
) -> list[Login]:
    """Each session's login now, of a container that may be stopped or gone.

    The API's answer (the health check) outranks what was written down before it was asked last.
    """
    names = list(sessions) or ["paper"]
    logins = Logins(names)
    logins.read(facts)
    now = time.time()
    if container is None or not container.running:
        known = logins.all(now) if facts else []
        return [one if one.held else _ended(container, one.session or "") for one in known] or [
            _ended(container, name) for name in names
        ]
    if facts:
        return [_serving(login, container, now - _STALE_SECONDS) for login in logins.all(now)]
    for line in log:  # it has no times that could be compared
        logins.feed(line, now)
    return [_serving(login, container, math.inf) for login in logins.all(now)]


def _ended(container: Container | None, session: str) -> Login:
    login = Login(session)
    login.note("stopped", moment(container.since) if container and container.since else 0.0)
    login.since = login.since or None
    if container is not None and container.exit_code in (77, 78):
        login.note("exit", login.since or 0.0, str(container.exit_code))
    return login


def _serving(login: Login, container: Container, checked: float) -> Login:
    newer = login.since is not None and login.since > checked
    logged_in = login.state in (states.LOGGED_IN, states.BLOCKED)
    if container.health == "healthy" and not newer and not logged_in:
        login.note("login", moment(container.since))
    return login


def moment(text: str) -> float:
    """ISO 8601 UTC, as the engine writes it, to seconds since 1970; 0 for anything else."""
    try:
        found = dt.datetime.fromisoformat(text[:19])
    except ValueError:
        return 0.0
    return found.replace(tzinfo=dt.timezone.utc).timestamp()  # noqa: UP017 - Python 3.9


def excerpt(log: str) -> str:
    """The lines that explain: ours and the login controller's; without any, the log's end."""
    lines = log.splitlines()
    telling = [line for line in lines if events(line) or _TELLING.search(line) or of_java(line)]
    return "\n".join((telling or lines)[-EXCERPT:])
