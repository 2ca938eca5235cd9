"""Ports of this machine: one that certainly takes no connections, and ones that stay free."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOWEST, USUAL_LIMIT = 12_000, 32_768
_given: set[int] = set()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port of 127.0.0.1 that is taken and not listened on: whoever connects is refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def free_port() -> int:
    """A port of 127.0.0.1 for what is told its port before it listens, or listens there again.

    The kernel gives connections that go out, and whoever asks it for a port, those of a range of
    its own: one out of that may be gone before it is used. This one lies below it.
    """
    limit = USUAL_LIMIT
    with suppress(OSError):
        limit = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(LOWEST, max(limit, USUAL_LIMIT))
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("0.0.0.0", port))
            if port not in _given:
                _given.add(port)
                return port
