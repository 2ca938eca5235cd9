"""What messages hold: states, facts and pieces that requests and events share.

Travels to the host: standard library, Python 3.9.
"""
# ruff: noqa: UP045 - the annotations are read at run time

from __future__ import annotations

import threading
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, Optional, TypedDict

if TYPE_CHECKING:
    from typing import dataclass_transform
else:

    def dataclass_transform() -> Any:
        """Python 3.9 has none; it is for the type checker."""
        return lambda kind: kind


@dataclass_transform()
class Part:
    """A dataclass by its base, made when it is first used: a command needs five of these seventy.

    Without `eq` and `repr`, which nobody needs of them.
    """

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return super().__new__(made(cls))


_making = threading.Lock()


def made(kind: Any) -> Any:
    """A kind of part as the dataclass that it is."""
    with _making:
        if "__dataclass_fields__" not in vars(kind):
            dataclass(eq=False, repr=False)(kind)
    return kind


def is_part(kind: Any) -> bool:
    """Whether it is a dataclass, or will be one when it is first used."""
    return is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, Part))


class Check(TypedDict, total=False):
    """What healthy means for a service; empty: it runs, and its own check passes.

    `ends`: how a session's gateway is ended before its container is: `PORT WORD` of IBC's server.
    """

    jvm: list[str]
    twoFactorWait: float
    sessions: list[str]
    ends: dict[str, str]
    port: int
    address: str
    name: str
    public: bool


Checks = dict[str, Check]


class Keeping(TypedDict):
    """A session's login as a plan looks at it: `parks`: its container can keep the session."""

    session: str
    state: str
    since: Optional[float]
    parks: bool


class LoginState(TypedDict):
    """The `login` object of `/health`, as far as it is read here."""

    state: str
    session: str
    kind: Optional[str]
    why: Optional[str]
    code: Optional[str]
    window: Optional[str]
    until: Optional[str]


class _Written(TypedDict):
    time: str
    release: Optional[str]
    result: str


class LedgerEntry(_Written, total=False):
    """A line of the ledger; `whole`: of all of the stack it was seen how it is."""

    command: str
    previous: Optional[str]
    restored: bool
    reason: str
    by: str
    seconds: float
    changes: dict[str, str]
    whole: bool


class Amount(TypedDict, total=False):
    """Sizes in KB."""

    total: int
    free: int
    available: int


class HostFacts(TypedDict):
    """The machine: memory, disk, clock, kernel."""

    time: float
    uid: int
    system: str
    machine: str
    memory: Amount
    swap: Amount
    disk: Amount
    load: float
    oomKills: Optional[int]
    synchronized: bool
    exposed: list[int]


class ServiceFacts(TypedDict, total=False):
    """What only the engine knows of a service; `processes`: `{"rss": KB, "line": command}`."""

    restarts: int
    digests: list[str]
    processes: list[dict[str, Any]]


class EngineFacts(TypedDict):
    """Versions, empty where a program does not answer."""

    engine: str
    compose: str
    services: dict[str, ServiceFacts]


class GatewayFacts(TypedDict):
    """The JVM as it runs, and whether the API answers.

    `browser`: what IBKR's own browser, which a passkey wants, lacks in the image; None: not known.
    """

    browser: Optional[list[str]]
    flags: Optional[list[str]]
    missing: list[str]
    resident: int
    api: bool
    said: str


class SettingsFacts(TypedDict):
    """The gateway's settings folder: its owner, and each jts.ini as it is used."""

    owner: Optional[int]
    files: dict[str, str]


class BackupFacts(TypedDict):
    """The backups on a schedule: `every` and times in seconds; None: it has not happened yet."""

    to: str
    every: float
    keep: int
    since: float
    succeededAt: Optional[float]
    snapshot: Optional[str]
    failedAt: Optional[float]
    failure: Optional[str]


class RepositoryPart(Part):
    """A restic repository: a folder or `sftp://…`; `key` and `known_hosts` empty: as root's ssh."""

    to: str
    password: str
    key: str = ""
    known_hosts: str = ""


class ServiceImage(Part):
    """A service's image, for the host to have; `fresh`: built without cached layers.

    Of a worker, `needs`: what it waits for before it starts, and `api_key`: its key's scope.
    """

    name: str
    image: str
    builds: bool
    fresh: bool = False
    needs: str = ""
    api_key: str = ""


class DataFolder(Part):
    """A folder below `data/`, with its owner (None: whoever deploys)."""

    path: str
    mode: int
    uid: Optional[int] = None


class ImageState(Part):
    """An image under a name: its id, its digest at its registry, and what it says of itself."""

    name: str
    id: str = ""
    digest: str = ""
    version: str = ""
    created: str = ""


class Newer(Part):
    """What a service runs, and what its name means at the registry now.

    `found.digest` empty: the registry gave no answer, and `why` says so. `refused`: what became of
    this very digest here before.
    """

    service: str
    runs: ImageState
    found: ImageState
    why: str = ""
    refused: str = ""


class FileState(Part):
    """A file of the current release; its `content` (base64) where a diff will be shown."""

    digest: str
    content: Optional[str] = None


class ServiceState(Part):
    """A container, as `plan.observed.ObservedService` says."""

    name: str
    state: str
    health: str
    image: str
    image_id: str
    hash: str
    since: str
    exit_code: Optional[int]
