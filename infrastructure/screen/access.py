"""Who may see the screen: the one browser tab that the printed address was opened in.

The address holds a ticket behind `#`, which browsers keep to themselves. The page trades it, once,
for a key and the VNC password; the WebSocket opens with the key only. What other pages in the same
browser try fails by `Host` (a name that was bent to 127.0.0.1) or `Origin` (a page from elsewhere);
what other users of the machine try fails by who they are, where the system tells.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import socket
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


NAMES = ("127.0.0.1", "localhost")


def _secret() -> str:
    return secrets.token_urlsafe(32)


@dataclass
class Access:
    """The ticket, the key, and the rules. One for each `vnc --web`.

    Args:
        port: the port that the page is served on; hosts and origins name it.
    """

    port: int
    ticket: str = field(default_factory=_secret, repr=False)
    _key: str = field(default_factory=_secret, repr=False)
    _used: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def address(self) -> str:
        """What a person opens: good for one tab."""
        return f"http://127.0.0.1:{self.port}/#{self.ticket}"

    @property
    def used(self) -> bool:
        """Whether the address has been opened."""
        return self._used

    def is_host(self, host: str | None) -> bool:
        """Whether a request was meant for this address, and not for a name bent to it."""
        return host in {f"{name}:{self.port}" for name in NAMES}

    def is_origin(self, origin: str | None) -> bool:
        """Whether a WebSocket is opened by our own page."""
        return origin in {f"http://{name}:{self.port}" for name in NAMES}

    def trade(self, headers: Mapping[str, str]) -> str | None:
        """The key for the ticket in `Authorization`, the first time; None otherwise."""
        scheme, _, offered = headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not _same(offered, self.ticket):
            return None
        with self._lock:
            if self._used:
                return None
            self._used = True
        return self._key

    def opens(self, protocols: str) -> bool:
        """Whether `Sec-WebSocket-Protocol` holds the key, once it was handed out."""
        offered = [word.strip() for word in protocols.split(",")]
        return self._used and any(_same(word, self._key) for word in offered)


def _same(offered: str, wanted: str) -> bool:
    return hmac.compare_digest(offered.encode(), wanted.encode())


TCP_TABLE = Path("/proc/net/tcp")
LOCAL, REMOTE, USER = 1, 2, 7
"""Columns of a line of the table."""


def owner_of(
    client: tuple[str, int], server: tuple[str, int], table: Path = TCP_TABLE
) -> int | None:
    """The user's number; None where the system does not tell (it is Linux that does).

    `client` and `server` are IPv4 addresses with ports, the two ends of one connection.
    """
    wanted = (_table_entry(client), _table_entry(server))
    with contextlib.suppress(OSError):
        for line in table.read_text().splitlines()[1:]:
            words = line.split()
            if (words[LOCAL], words[REMOTE]) == wanted:
                return int(words[USER])
    return None


def _table_entry(address: tuple[str, int]) -> str:
    """As the kernel writes it: the address as a number of this machine's byte order."""
    host = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return f"{host:08X}:{address[1]:04X}"


def our_users() -> frozenset[int]:
    """The users who may look: ourselves, who called `sudo`, and root, who may do anything."""
    who = {0, os.getuid()}
    with contextlib.suppress(KeyError, ValueError):
        who.add(int(os.environ["SUDO_UID"]))
    return frozenset(who)
