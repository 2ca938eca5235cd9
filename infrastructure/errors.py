# ruff: noqa: N818 - names that read as what happened
"""Every failure that a person is told about, with its exit code.

    GangwayError            1  failed (and restored)
    ├── DeployFailed        1  a step on the host failed; says whether the old release serves again
    ├── UsageError          2  a wrong option, name or argument
    │   └── ConfigError     2  one or many problems in stack.yaml, each with its place
    ├── ChangesPending      3  `plan --check` found something to do
    ├── WaitingForPerson    4  2FA was not approved in time; nothing was torn down
    ├── HostError           5  the host cannot be used
    │   ├── HostUnreachable 5  no route, refused, timeout, login rejected
    │   └── HostKeyError    5  unknown or changed host key
    ├── DeployLocked        6  another deploy holds the lock
    └── Interrupted       130  Ctrl-C, SIGTERM

Printed by `infrastructure.cli.output` as `error: …`, the place, `hint: …`; never as a traceback
unless `-v`. Messages never hold a secret: whoever raises builds them from names, not from values.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where in a file a value stands. Line and column count from 1; 0 means the whole file."""

    file: str
    line: int = 0
    column: int = 0
    path: str = ""

    def __str__(self) -> str:
        position = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{position} {self.path}".rstrip()


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong (or, as a warning, unwise) in the configuration."""

    message: str
    place: Place | None = None
    hint: str = ""
    code: str = "config-invalid"

    def as_json(self) -> dict[str, object]:
        """The shape that `--json` prints."""
        place = self.place or Place("")
        return {
            "code": self.code,
            "message": self.message,
            "file": place.file,
            "line": place.line,
            "column": place.column,
            "path": place.path,
            "hint": self.hint,
        }


@dataclass(eq=False)
class GangwayError(Exception):
    """A failure for a person: one line, a place, a hint, a stable code, an exit code."""

    message: str
    place: Place | None = None
    hint: str = ""
    code: str = "failed"
    details: str = field(default="", repr=False)
    """More lines to show below the message, such as the tail of a log. Never secrets."""

    exit_code = 1
    reported = False
    """Whether the command has already printed its JSON document."""
    trace = ""
    """Where in the host's program it came from; shown with `-v`."""

    def __post_init__(self) -> None:
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message

    def problems(self) -> list[Problem]:
        """This failure as a list, so that one printer serves one and many."""
        return [Problem(self.message, self.place, self.hint, self.code)]


@dataclass(eq=False)
class DeployFailed(GangwayError):
    """A deploy did not become healthy, or a step of it failed on the host."""

    code: str = "deploy-failed"
    restored: bool = False
    """True when the previous release serves again."""


@dataclass(eq=False)
class UsageError(GangwayError):
    """The command was called wrongly."""

    code: str = "usage"
    exit_code = 2


@dataclass(eq=False)
class ConfigError(UsageError):
    """Everything that is wrong in stack.yaml, at once."""

    code: str = "config-invalid"
    found: tuple[Problem, ...] = ()

    def problems(self) -> list[Problem]:
        """Every problem found, or this one."""
        return list(self.found) or super().problems()


@dataclass(eq=False)
class ChangesPending(GangwayError):
    """`plan --check`: something would change."""

    code: str = "changes-pending"
    exit_code = 3


@dataclass(eq=False)
class WaitingForPerson(GangwayError):
    """A person has to act (approve 2FA on IBKR Mobile); nothing was torn down."""

    code: str = "waiting-2fa"
    exit_code = 4


@dataclass(eq=False)
class HostError(GangwayError):
    """The host cannot be used."""

    code: str = "host"
    exit_code = 5


@dataclass(eq=False)
class HostUnreachable(HostError):
    """No answer from the host, or it does not let us in."""

    code: str = "host-unreachable"


@dataclass(eq=False)
class HostKeyError(HostError):
    """The host's key is unknown, or is not the one it had before."""

    code: str = "host-key"
    fingerprint: str = ""


@dataclass(eq=False)
class DeployLocked(GangwayError):
    """Another deploy of this stack is running."""

    code: str = "locked"
    exit_code = 6


@dataclass(eq=False)
class Interrupted(GangwayError):
    """Stopped by the operator."""

    code: str = "interrupted"
    exit_code = 130
