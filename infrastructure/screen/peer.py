"""Which user of this machine is at the other end of a loopback connection."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path

TABLE = Path("/proc/net/tcp")
LOCAL, REMOTE, USER = 1, 2, 7
"""Columns of a line of the table."""


def owner(client: tuple[str, int], server: tuple[str, int], table: Path = TABLE) -> int | None:
    """The user's number; None where the system does not tell (it is Linux that does).

    `client` and `server` are IPv4 addresses with ports, the two ends of one connection.
    """
    wanted = (_entry(client), _entry(server))
    with contextlib.suppress(OSError):
        for line in table.read_text().splitlines()[1:]:
            words = line.split()
            if (words[LOCAL], words[REMOTE]) == wanted:
                return int(words[USER])
    return None


def _entry(address: tuple[str, int]) -> str:
    """As the kernel writes it: the address as a number of this machine's byte order."""
    host = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return f"{host:08X}:{address[1]:04X}"


def ours() -> frozenset[int]:
    """The users who may look: ourselves, who called `sudo`, and root, who may do anything."""
    who = {0, os.getuid()}
    with contextlib.suppress(KeyError, ValueError):
        who.add(int(os.environ["SUDO_UID"]))
    return frozenset(who)
