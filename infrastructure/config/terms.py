"""What settings come to: all of it that does not need the models of stack.yaml.

The terms are bases of the models (`config.models`) and of what stands in for them where a
configuration was checked before (`config.plain`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

KNOWN_HOSTS = "~/.ssh/known_hosts"
"""Where trusted host keys are unless the settings say so."""


FINGERPRINT = r"SHA256:[A-Za-z0-9+/]{43}=?"
"""A host key's, as OpenSSH prints it."""
TWS_PORTS = (4001, 4002, 4003, 4004, 7496, 7497)
"""Where gateways and TWS speak the TWS API, which is no HTTP."""


PORTAL_IS_THE_GATEWAY = (
    "portal.username is the gateway's: each login would end the other's session",
    "add a second user at IBKR and use it here",
)
"""What is wrong, and the hint."""


def user_name(text: str) -> str:
    """A user name of IBKR's, wherever it comes from; ValueError for what is none."""
    if not re.fullmatch(r"[A-Za-z0-9._@-]{1,64}", text):
        raise ValueError("a user name has only letters, digits, dot, dash, underscore and @")
    return text


def same_user(name: str, *others: str | None) -> bool:
    """Whether it is one of the others: IBKR takes letters of either case."""
    return name.lower() in {other.lower() for other in others if other is not None}


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


class SecretTerms:
    """How a reference to a secret is told."""

    if TYPE_CHECKING:
        stored: str | None
        file: str | None
        command: tuple[str, ...] | None

    def __str__(self) -> str:
        if self.stored:
            return f"stored secret '{self.stored}'"
        return f"file {self.file}" if self.file else f"command {(self.command or ('',))[0]}"


class JournalTerms:
    """How long the journal keeps orders."""

    if TYPE_CHECKING:
        keep: str

    @property
    def keep_days(self) -> int:
        """The same in days."""
        return days(self.keep)


def days(text: str) -> int:
    """Days of `90d` or `2y`."""
    return int(text[:-1]) * (365 if text.endswith("y") else 1)


class StackTerms:
    """What a stack's settings come to, the machine's size and the gateway's mode considered."""

    if TYPE_CHECKING:  # the model knows them better
        profile: str
        gateway: Any
        bridge: Any
        trading: Any
        limits: Any
        workers: Any

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
            return bool(self.gateway.read_only)
        return self.gateway.mode != "paper" and not self.trading.live

    @property
    def master_client_id(self) -> int:
        """The client id that hears of everyone's orders and fills: the bridge's, or as set.

        It only sees them: the protocol lets nobody change or cancel an order but its own client.
        """
        set_to = self.gateway.master_client_id
        return int(self.bridge.client_id if set_to is None else set_to)
