"""The models of stack.yaml. Field docstrings are the reference (docs/configuration.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field, field_validator

from infrastructure.config.base import Megabytes, Port, SecretRef, Section, check_image, stored
from infrastructure.config.bridge import Alerts, Bridge, Journal, PositionRules, Trading
from infrastructure.config.caddy import Caddy
from infrastructure.config.gateway import Gateway
from infrastructure.config.host import Host  # noqa: TC001 - pydantic reads it
from infrastructure.config.workers import Worker  # noqa: TC001 - pydantic reads it
from infrastructure.errors import Place

if TYPE_CHECKING:
    from infrastructure.config.places import Document
    from infrastructure.errors import Problem

ProfileName = Literal["e2-micro", "small", "standard"]


class Budget(NamedTuple):
    """Memory limit of a container, and its limit of memory plus swap."""

    memory: int
    with_swap: int


class Profile(NamedTuple):
    """A machine's size, and how it is shared out."""

    memory: int
    swap: int
    heap: int
    gateway: Budget
    bridge: Budget
    caddy: Budget
    portal: Budget


PROFILES: dict[str, Profile] = {
    "e2-micro": Profile(
        1024, 1024, 256, Budget(640, 1536), Budget(128, 320), Budget(96, 192), Budget(256, 768)
    ),
    "small": Profile(
        2048, 1024, 512, Budget(1152, 2048), Budget(192, 384), Budget(128, 256), Budget(384, 768)
    ),
    "standard": Profile(
        4096, 2048, 768, Budget(1536, 2560), Budget(256, 512), Budget(192, 384), Budget(512, 1024)
    ),
}


class Portal(Section):
    """The Client Portal gateway, beside the TWS API."""

    enabled: bool = False
    """Whether the stack has one. It logs in with a browser of its own (IBeam)."""
    image: str = "voyz/ibeam:latest"
    """Image by tag or digest."""
    url: str | None = None
    """A Client Portal gateway that runs elsewhere, instead of one in this stack."""
    username: str | None = None
    """Its IBKR user name, another one than the gateway's: a user has one session."""
    password: SecretRef = stored("portal-password")
    """Its password."""

    @field_validator("image")
    @classmethod
    def _image(cls, value: str) -> str:
        return check_image(value)

    @field_validator("url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:-]+/?", value):
            raise ValueError(f"'{value}' is no address of a Client Portal gateway")
        return value


class Simulated(Section):
    """Ports of the simulated parts, all on 127.0.0.1; only with `runtime: sandbox`."""

    tws_port: Port = 4002
    """The simulated gateway's TWS API."""
    portal_port: Port = 5000
    """The simulated Client Portal."""
    control_port: Port = 4099
    """Where faults are switched on and off and the clock is wound."""
    caddy_admin_port: Port = 2019
    """Caddy's own API."""
    caddy_health_port: Port = 8081
    """Caddy's health check."""


class Limits(Section):
    """Memory of each service in MB; unset: as the profile says."""

    gateway: Megabytes | None = None
    """The gateway's memory limit."""
    gateway_swap: Megabytes | None = None
    """The gateway's memory plus swap."""
    bridge: Megabytes | None = None
    """The bridge's memory limit."""
    caddy: Megabytes | None = None
    """Caddy's memory limit."""
    portal: Megabytes | None = None
    """The Client Portal gateway's memory limit."""


class Stack(Section):
    """One target of stack.yaml."""

    host: Host
    """Where it runs."""
    profile: ProfileName = "e2-micro"
    """Size of the machine: `e2-micro` (1 GB), `small` (2 GB), `standard` (4 GB or more)."""
    folder: str = "/opt/gangway"
    """Folder on the host; releases go to `<folder>/<target>/`."""
    runtime: Literal["compose", "sandbox"] = "compose"
    """Docker Compose, or simulated parts as plain processes on this machine (`host: local`)."""
    gateway: Gateway = Gateway()
    """IB Gateway."""
    bridge: Bridge = Bridge()
    """The bridge."""
    caddy: Caddy = Caddy()
    """Caddy."""
    portal: Portal = Portal()
    """Client Portal."""
    trading: Trading = Trading()
    """Limits on orders."""
    rules: PositionRules = ()
    """Rules that watch positions and close them; each as `docs/position-manager.md` has it."""
    rules_mode: Literal["simulate", "trade"] | None = None
    """For all rules: `simulate` orders nothing, `trade` holds for rules that say no mode of
    their own. Unset: each rule's own, else `simulate`."""
    journal: Journal = Journal()
    """The journal of orders."""
    alerts: Alerts = Alerts()
    """Alerts."""
    limits: Limits = Limits()
    """Memory limits that differ from the profile's."""
    workers: dict[str, Worker] = Field(default_factory=dict)
    """Containers of your own beside the bridge, by name (docs/workers.md)."""
    simulated: Simulated = Simulated()
    """Ports of the sandbox."""

    @field_validator("folder")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not re.fullmatch(r"/[^\x00-\x1f]+", value) or ".." in value.split("/"):
            raise ValueError("an absolute path is wanted here")
        return value.rstrip("/")

    @property
    def heap(self) -> int:
        """The gateway's heap in MB."""
        return self.gateway.jvm.heap or PROFILES[self.profile].heap

    def budget(self, service: str) -> Budget:
        """A service's limits in MB: what stack.yaml says, else what the profile gives.

        A worker gets no swap: it would push the gateway's pages out.
        """
        if service in self.workers:
            return Budget(self.workers[service].memory, self.workers[service].memory)
        given: Budget = getattr(PROFILES[self.profile], service)
        if service == "gateway" and self.gateway.mode == "both":
            given = Budget(given.memory * 2, given.with_swap * 2)
        memory = getattr(self.limits, service) or given.memory
        with_swap = self.limits.gateway_swap if service == "gateway" else None
        return Budget(memory, max(memory, with_swap or given.with_swap))

    @property
    def memory(self) -> int:
        """The machine's memory in MB, as the profile has it."""
        return PROFILES[self.profile].memory

    @property
    def sessions(self) -> tuple[Literal["live", "paper"], ...]:
        """The sessions that the gateway's container holds."""
        mode = self.gateway.mode
        return ("live", "paper") if mode == "both" else (mode,)

    @property
    def session(self) -> Literal["live", "paper"]:
        """The one that the bridge serves."""
        mode = self.gateway.mode
        return (self.bridge.session or "paper") if mode == "both" else mode

    @property
    def read_only(self) -> bool:
        """Whether the gateway refuses orders: as set, else only live without `trading.live`."""
        if self.gateway.read_only is not None:
            return self.gateway.read_only
        return self.gateway.mode != "paper" and not self.trading.live

    @property
    def master_client_id(self) -> int:
        """The client id that hears of everyone's orders and fills: the bridge's, or as set.

        It only sees them: the protocol lets nobody change or cancel an order but its own client.
        """
        set_to = self.gateway.master_client_id
        return self.bridge.client_id if set_to is None else set_to


@dataclass(frozen=True)
class Target:
    """A checked target: its name, its settings, where each value stands, what was odd about it."""

    name: str
    stack: Stack
    file: Path | None = None
    document: Document | None = field(default=None, repr=False, compare=False)
    warnings: tuple[Problem, ...] = ()

    @property
    def project(self) -> str:
        return f"gangway-{self.name}"

    @property
    def base(self) -> PurePosixPath:
        """The stack's folder on the host."""
        return PurePosixPath(self.stack.folder) / self.name

    @property
    def local(self) -> bool:
        """Whether it runs on this machine, without SSH."""
        return self.stack.host.address == "local"

    def worker_folder(self, worker: Worker) -> Path | None:
        """Where a worker is built from; None: from nothing."""
        if worker.build is None:
            return None
        path = Path(worker.build).expanduser()
        return path if path.is_absolute() or self.file is None else self.file.parent / path

    def place(self, *path: str | int, key: bool = False) -> Place:
        """Where a value stands in stack.yaml, such as `place("gateway", "mode")`."""
        if self.document is None:
            return Place(self.name, path=".".join(map(str, path)))
        return self.document.target_place(self.name, path, key=key)
