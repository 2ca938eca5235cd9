"""The address file: where messages go, one service address a line, as Apprise writes them.

The addresses hold tokens and passwords: the file is a secret, and no line of it gets into a log.
"""

from __future__ import annotations

from pathlib import Path

from bridge.errors import BridgeError, Kind


class AddressFileError(BridgeError):
    """The file cannot be used."""

    code = "alerts-file-unusable"
    kind = Kind.INTERNAL
    next_step = (
        "Set alerts.urls in stack.yaml and deploy; by hand: BRIDGE_ALERTS_FILE names a file with"
        " one address a line, such as ntfy://topic"
    )


def read(path: Path) -> tuple[str, ...]:
    """The addresses; empty lines and lines that begin with # do not count.

    Raises:
        AddressFileError: it cannot be read, or a line is no address.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise AddressFileError(f"cannot read {path}: {reason}") from None
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if "://" not in text:
            raise AddressFileError(f"line {number} of {path} is no address")
        found.append(text)
    return tuple(found)


def service_of(address: str) -> str:
    """The service's word (`discord`), which is all that is ever shown of an address."""
    return address.partition("://")[0].lower()
