"""What a host's program tells. Travels there: standard library, Python 3.9."""
# ruff: noqa: UP045 - the annotations are read at run time

from __future__ import annotations

from dataclasses import field
from typing import Any, Optional

from infrastructure.apply.protocol.documents import (
    BackupFacts,
    EngineFacts,
    FileState,
    GatewayFacts,
    HostFacts,
    ImageState,
    Keeping,
    LedgerEntry,
    LoginState,
    Newer,
    Part,
    ServiceState,
    SettingsFacts,
)
from infrastructure.runtime.containers import Action  # noqa: TC001 - read at run time


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
    """The request failed; `restored`: what served before serves again.

    `trace`: where in the program, of what nobody expected.
    """

    code: str
    message: str
    hint: str
    details: str
    restored: bool
    trace: str = ""


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
    """`login` is the bridge's own session; `bridge` its `/health`, None without an answer.

    `caddy`: why it passes no requests on to the bridge; empty: it does, or still waits for its
    certificate; None: it was not asked, or does not run.
    """

    login: LoginState
    logins: list[LoginState]
    bridge: Any = None
    caddy: Optional[str] = None


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
    """What a rollback would serve and change; `definition`: the text of its services'.

    `secrets`: names of those that are others there than in what serves now.
    """

    release: str
    previous: Optional[str]
    changes: dict[str, Action]
    definition: str
    secrets: list[str] = field(default_factory=list)


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
    """Whether something was begun or ended; `backups`: the schedule that was ended."""

    changed: bool
    backups: Optional[BackupFacts] = None


class Left(Event):
    """It is known here that the stack runs elsewhere now."""

    to: str


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

    `fills`: folders that may fill the disk, and their size in KB. `moved`: where the stack runs
    now, and since when, if it was moved away.
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
    moved: str = ""
