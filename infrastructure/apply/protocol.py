"""What this machine and a host's program say to each other, as types that both ends share.

A message is a line of JSON: a request has its name as `op`, an event as `event`. `status` is
`StatusRequest`, and its answer the event `Status`. A request that fails is answered by `Failed`.
A host is another machine, and perhaps not the one that was meant: what it says is compared with
these types (`read`), and another shape is an error for a person, not a surprise somewhere later.

Travels to the host: standard library, Python 3.9, which has no `X | None` that can be looked at.
"""
# ruff: noqa: UP045 - the annotations are read at run time

from __future__ import annotations

import json
import re
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Optional,
    TypedDict,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from infrastructure.runtime.containers import Action  # noqa: TC001 - read at run time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import dataclass_transform
else:

    def dataclass_transform() -> Any:
        """Python 3.9 has none; it is for the type checker."""
        return lambda kind: kind


@dataclass_transform()
class Part:
    """A dataclass by its base: without `eq` and `repr`, which nobody needs of these seventy.

    They are made anew with each command, and so in half the time.
    """

    def __init_subclass__(cls) -> None:
        dataclass(eq=False, repr=False)(cls)


# --- documents inside the messages ---------------------------------------------------------------
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
    """A line of the ledger."""

    command: str
    previous: Optional[str]
    restored: bool
    reason: str
    by: str
    seconds: float
    changes: dict[str, str]


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


# --- requests -------------------------------------------------------------------------------------
class Request(Part):
    """From here to the host."""


class OpenRequest(Request):
    """Which stack it is about; with `lock` nobody else may deploy until the session ends.

    `lock_wait`: so many seconds another's lock is waited for. No answer when all is well.
    """

    base: str
    project: str
    runtime: str
    by: str
    lock: bool = False
    lock_wait: float = 0.0


class VerifyRequest(Request):
    """Is all healthy, without changes? `stretch`: how far `wait` may grow on a busy machine.

    `afresh`: a gateway whose login is held tries again.
    """

    checks: Checks
    wait: float
    hashes: dict[str, str] = field(default_factory=dict)
    afresh: bool = False
    stretch: float = 1.0


class ObserveRequest(Request):
    """What is there, and what differs from `files` (path to digest)?

    `verify` follows at once when nothing differs. `sessions`: whose logins are told, too.
    """

    release: str = ""
    files: dict[str, str] = field(default_factory=dict)
    verify: Optional[VerifyRequest] = None
    sessions: list[str] = field(default_factory=list)


class LackingRequest(Request):
    """Which of these images are not there?"""

    images: list[str]


class LoadRequest(Request):
    """Takes in an image, whose bytes follow; `partial`: without layers that should be there."""

    size: int
    partial: bool


class ApplyRequest(Request):
    """Puts a release into service; `tar` bytes of it follow.

    `gate`: what must be healthy at the end instead of all `checks`. `command`: what the ledger
    calls it. `images`: names to the ids that they shall stand for from now on. `keep`: the same
    user logs in, so the gateway's session may go over. `published`: settings to `address:port`,
    and `memory` in MB: what must be free on the host beside others' (`apply.host.neighbours`).
    """

    release: str
    services: list[ServiceImage]
    changes: dict[str, Action]
    checks: Checks
    wait: float
    by: str
    tar: int = 0
    owners: dict[str, int] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)
    folders: list[DataFolder] = field(default_factory=list)
    gate: Optional[Checks] = None
    command: str = "up"
    stretch: float = 1.0
    images: dict[str, str] = field(default_factory=dict)
    keep: bool = False
    published: dict[str, str] = field(default_factory=dict)
    memory: int = 0


class NewerRequest(Request):
    """What do these services' image names mean at their registries now? `{service: image}`."""

    images: dict[str, str]


class FetchRequest(Request):
    """Gets an image by its digest (empty: by its name), without giving it the name."""

    image: str
    digest: str


class StatusRequest(Request):
    """The logins and the bridge's health; `session`: the one that the bridge serves."""

    bridge_port: int
    sessions: list[str]
    session: str


class HistoryRequest(Request):
    """The ledger."""


class ControllerRequest(Request):
    """What logs in within this image?"""

    image: str


class LoginFactsRequest(Request):
    """What has the gateway's container written down of its logins?"""


class DownRequest(Request):
    """Stops and removes every service; `ends` as in `Check`."""

    by: str
    ends: dict[str, str]


class RestartRequest(Request):
    """Restarts one service; the gateway in its container, unless `cold`."""

    service: str
    cold: bool
    command_ports: list[int]
    checks: Checks
    wait: float
    by: str
    stretch: float = 1.0


class LogsRequest(Request):
    """Lines of these services (none: of all), `lines` of each (0: all) since a time or an age."""

    services: list[str]
    since: str
    lines: int
    follow: bool


class GoingBackRequest(Request):
    """What would a rollback change? Empty: to the last healthy release."""

    release: str


class RollBackRequest(Request):
    """Serves an earlier release again; `keep` as in `ApplyRequest`."""

    release: str
    wait: float
    by: str
    keep: bool = False
    stretch: float = 1.0


class AskBridgeRequest(Request):
    """One HTTP request to the bridge with the first key, which never leaves the host."""

    method: str
    path: str
    bridge_port: int
    body: Any = None
    seconds: float = 10.0


class TypeCodeRequest(Request):
    """Types a code into the gateway's window; the login when it was taken, or after `seconds`."""

    code: str
    seconds: float
    asked: StatusRequest


class PictureRequest(Request):
    """The gateway's window as a picture."""


class BackupRequest(Request):
    """Copies what the stack cannot do without; `Piece`s come first."""

    target: str
    version: str


class RestoreRequest(Request):
    """Puts a backup back, whose `size` bytes follow; `owner`: of its files (None: ours).

    With a `repository` nothing follows: `snapshot` (`latest`, or an id) is taken from there.
    """

    size: int
    owner: Optional[int] = None
    running: bool = False
    repository: Optional[RepositoryPart] = None
    snapshot: str = "latest"


class KeepBackupsRequest(Request):
    """One backup into a repository; with `every` (seconds) from now on, too, the newest `keep`.

    `program`: what the host runs by itself then.
    """

    repository: RepositoryPart
    target: str
    version: str
    keep: int
    every: float = 0.0
    program: str = ""


class WatchImagesRequest(Request):
    """Has the host ask the registries once a week and tell people, or no longer."""

    wanted: bool
    program: str = ""


class EndBackupsRequest(Request):
    """Ends the schedule of backups; those that there are stay."""


class ScreenRequest(Request):
    """Shows the gateway's screen by VNC until `CancelRequest`."""

    password: str


class AddressRequest(Request):
    """Where does the host reach a service's container?"""

    service: str


class FactsRequest(Request):
    """All that the host knows of itself and of the stack."""

    checks: Checks


class HaltRequest(Request):
    """Halts trading; needs no `OpenRequest`. `cancel`: `opening`, `all` or `none`."""

    base: str
    bridge_port: int
    by: str
    cancel: str
    reason: str = ""


class ResumeRequest(Request):
    """Lifts the halt; needs no `OpenRequest`."""

    base: str
    bridge_port: int
    by: str


class CancelAllRequest(Request):
    """A global cancel straight at the gateway's API; its container is asked for no address given.

    Needs no `OpenRequest`.
    """

    base: str
    project: str
    runtime: str
    by: str
    tws_port: int
    tws_address: str = ""


class CancelRequest(Request):
    """Ends what goes on, in good order."""


class CloseRequest(Request):
    """Ends the program."""


# --- events ---------------------------------------------------------------------------------------
class Event(Part):
    """From the host to here."""


class Unknown(Event):
    """An event of a name that is not known here."""


class Hello(Event):
    """The program runs: what a login script has printed ends before this."""


class Alive(Event):
    """Something goes on."""


class Step(Event):
    """What happens now."""

    text: str


class Stage(Event):
    """How far a service is."""

    service: str
    text: str
    stage: str = ""


class Log(Event):
    """A line of a service that is waited for."""

    service: str
    line: str


class Line(Event):
    """A line of a log that was asked for."""

    service: str
    time: str
    text: str


class Waiting(Event):
    """A person is waited for, `left` seconds more."""

    service: str
    left: int
    told: str = "waiting for a person"


class Build(Event):
    """A step of a build begins."""

    service: str
    step: int
    steps: int
    text: str


class Upload(Event):
    """How many bytes have been sent; comes from this machine itself."""

    what: str
    sent: int
    total: int


class Observed(Event):
    """What is on the host; `verifying`: nothing differs, and `Done` will follow.

    `time`: the host's clock. `logins`: those of the gateway's container that runs.
    """

    time: float
    logins: list[Keeping]
    release: Optional[str]
    files: dict[str, FileState]
    services: dict[str, ServiceState]
    has: bool
    pending: Optional[dict[str, Any]]
    verifying: bool


class Lacking(Event):
    """Missing images, the architecture they must have, and the layers of those that are there."""

    images: list[str]
    architecture: str
    layers: list[list[str]]


class Loaded(Event):
    """The image was taken in, or `refused` because it lacks layers."""

    refused: bool


class NewerFound(Event):
    """For each service that was asked of."""

    services: list[Newer]


class Fetched(Event):
    """The image is there."""

    image: ImageState


class Failed(Event):
    """The request failed; `restored`: what served before serves again."""

    code: str
    message: str
    hint: str
    details: str
    restored: bool


class Done(Event):
    """How work on the stack ended: `result` is `healthy` or `waiting-2fa`.

    `kept`: the gateway kept its session. `workers`: those that do not run as they should, and why.
    """

    result: str
    release: Optional[str]
    healthy: bool
    restored: bool
    seconds: float
    told: str = ""
    hint: str = ""
    kept: bool = False
    workers: dict[str, str] = field(default_factory=dict)


class Ended(Event):
    """What was asked for is over; `release`: the one that served."""

    release: Optional[str] = None


class Status(Event):
    """`login` is the bridge's own session; `bridge` its `/health`, None without an answer."""

    login: LoginState
    logins: list[LoginState]
    bridge: Any = None


class History(Event):
    """The ledger, oldest first, and the release that serves."""

    entries: list[LedgerEntry]
    current: Optional[str]


class Controller(Event):
    """None: the image is not there."""

    controller: Optional[str]


class LoginFacts(Event):
    """By session, as the container wrote it."""

    facts: dict[str, str]


class GoingBack(Event):
    """What a rollback would serve and change; `definition`: the text of its services'."""

    release: str
    previous: Optional[str]
    changes: dict[str, Action]
    definition: str


class AskBridge(Event):
    """Status (0: no answer), decoded body, seconds."""

    status: int
    body: Any
    seconds: float


class Address(Event):
    """An IP address."""

    address: str


class Screen(Event):
    """Where the VNC server listens, as the host reaches it."""

    address: str
    port: int


class Picture(Event):
    """The gateway's window: a PNG in base64."""

    png: str


class Piece(Event):
    """A part of a backup, in base64."""

    data: str


class Backup(Event):
    """The backup is whole; `journal`: how many rows of each kind it holds."""

    size: int
    files: int
    journal: dict[str, int]


class KeptBackup(Event):
    """The backup is in the repository under this id."""

    snapshot: str
    files: int
    journal: dict[str, int]


class Scheduled(Event):
    """Whether something was begun or ended."""

    changed: bool


class Restored(Event):
    """The backup was put back; what lay there before is in the folder `aside`, if anything did."""

    aside: str
    files: int
    journal: dict[str, int]
    at: float
    target: str


class Halted(Event):
    """`way`: `bridge` (its `answer` with its `status`) or `mark`.

    `mark`: `left`, `empty`, `removed`, `kept`, or why it could not be so.
    """

    way: str
    answer: Any
    mark: str
    status: int


class Cancelled(Event):
    """What a global cancel left open (None: not known), and what the gateway said."""

    left: Optional[int]
    errors: list[str]


class Facts(Event):
    """All that the host knows; `certificate`: Caddy's, DER in base64.

    `fills`: folders that may fill the disk, and their size in KB.
    """

    host: HostFacts
    engine: EngineFacts
    gateway: GatewayFacts
    certificate: Optional[str]
    secrets: list[str]
    settings: SettingsFacts
    pending: Optional[dict[str, Any]]
    releases: list[str]
    fills: dict[str, int] = field(default_factory=dict)
    backup: Optional[BackupFacts] = None


# --- on the wire ----------------------------------------------------------------------------------
class Misshapen(ValueError):  # noqa: N818
    """A value is not of the type that it should have."""


Of = TypeVar("Of")


def name_of(kind: type) -> str:
    """What a message is called on the wire: `AskBridgeRequest` is `ask_bridge`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__.removesuffix("Request")).lower()


REQUESTS: dict[str, type[Request]] = {name_of(one): one for one in Request.__subclasses__()}
EVENTS: dict[str, type[Event]] = {name_of(one): one for one in Event.__subclasses__()}


def encode(message: Request | Event) -> bytes:
    """A message as a line."""
    key = "op" if isinstance(message, Request) else "event"
    values = {key: name_of(type(message)), **vars(message)}
    return json.dumps(values, separators=(",", ":"), default=vars).encode() + b"\n"


def request_of(line: bytes) -> Request:
    """The request that a line holds; Misshapen when it holds none."""
    values = json.loads(line)
    return read(REQUESTS[values["op"]], values)


def event_of(line: bytes) -> Event:
    """The event that a line holds; ValueError when it is no JSON, Misshapen when it is no event."""
    values = json.loads(line)
    if not isinstance(values, dict) or not isinstance(values.get("event"), str):
        raise Misshapen("it is no event")
    return read(EVENTS.get(values["event"], Unknown), values)


def read(kind: type[Of], value: Any, at: str = "") -> Of:
    """A decoded value as the type that it has to be; Misshapen when it is not.

    Of a mapping with more in it than its type says, a dataclass leaves the rest out, a `TypedDict`
    keeps it.
    """
    found: Of = _read(kind, value, at)
    return found


@cache
def _parts(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, value: Any, at: str) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin is Union:  # Optional: nothing else is used here
        return None if value is None else _read(get_args(kind)[0], value, at)
    if origin is Literal:
        if value not in get_args(kind):
            raise Misshapen(f"'{at}' is of another kind")
        return value
    if origin is list:
        if not isinstance(value, list):
            raise Misshapen(f"'{at}' is no list")
        return [_read(get_args(kind)[0], item, at) for item in value]
    if origin is dict or is_dataclass(kind) or hasattr(kind, "__total__"):
        if not isinstance(value, dict):
            raise Misshapen(f"'{at}' is no mapping")
        if origin is dict:
            return {key: _read(get_args(kind)[1], item, at) for key, item in value.items()}
        return _document(kind, value)
    return _plain(kind, value, at)


def _document(kind: Any, value: dict[str, Any]) -> Any:
    """A dataclass or a TypedDict."""
    as_dataclass = is_dataclass(kind)
    needed = (
        {
            one.name
            for one in fields(kind)
            if one.default is MISSING and one.default_factory is MISSING
        }
        if as_dataclass
        else kind.__required_keys__
    )
    found = {}
    for name, part in _parts(kind).items():
        if name in value:
            found[name] = _read(part, value[name], name)
        elif name in needed:
            raise Misshapen(f"'{name}' is missing")
    return kind(**found) if as_dataclass else {**value, **found}


def _plain(kind: Any, value: Any, at: str) -> Any:
    if isinstance(value, bool) and kind is not bool:
        raise Misshapen(f"'{at}' is true or false")
    if not isinstance(value, (int, float) if kind is float else kind):
        raise Misshapen(f"'{at}' is of another kind")
    return value
