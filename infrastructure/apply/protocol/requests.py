"""What this machine asks of a host's program. Travels to the host: standard library, Python 3.9."""
# ruff: noqa: UP045 - the annotations are read at run time

from __future__ import annotations

from dataclasses import field
from typing import Any, Optional

from infrastructure.apply.protocol.documents import (
    Check,
    Checks,
    DataFolder,
    Part,
    RepositoryPart,
    ServiceImage,
)
from infrastructure.runtime.containers import Action  # noqa: TC001 - read at run time


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
    """The logins and the bridge's health; `session`: the one that the bridge serves.

    `caddy`: how it is asked whether it passes requests on; None: it is not.
    """

    bridge_port: int
    sessions: list[str]
    session: str
    caddy: Optional[Check] = None


class HistoryRequest(Request):
    """The ledger."""


class ControllerRequest(Request):
    """What logs in within this image?"""

    image: str


class LoginFactsRequest(Request):
    """What has the gateway's container written down of its logins?"""


class DownRequest(Request):
    """Stops and removes every service; `ends` as in `Check`.

    `hold`: nobody may start it again before the client closes.
    """

    by: str
    ends: dict[str, str]
    hold: bool = False


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
    within: float = 10.0
    """Seconds that the bridge may take."""


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
    `target`: what it is put back for.
    """

    size: int
    owner: Optional[int] = None
    running: bool = False
    repository: Optional[RepositoryPart] = None
    snapshot: str = "latest"
    target: str = ""


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


class LeaveRequest(Request):
    """The stack runs at `to` now: nothing starts here any more, until it is put back here."""

    to: str


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

    Needs no `OpenRequest`. `relays`: the port of each session, should another one than that of
    `tws_port` be deployed.
    """

    base: str
    project: str
    runtime: str
    by: str
    tws_port: int
    tws_address: str = ""
    relays: dict[str, int] = field(default_factory=dict)


class CancelRequest(Request):
    """Ends what goes on, in good order."""


class CloseRequest(Request):
    """Ends the program."""
