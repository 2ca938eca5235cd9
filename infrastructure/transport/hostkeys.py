"""Which host keys are trusted. Fabric's own default is to accept any, even a changed one."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from infrastructure.errors import HostKeyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fabric import Connection
    from paramiko import PKey, SSHClient

    from infrastructure.transport.openssh import Resolved


MOCKS = "unittest.mock"
"""Fabric's base library imports it for other people's tests, and with it asyncio: a third of the
time that the import takes, on every command with a host."""


@contextmanager
def without_mocks() -> Iterator[None]:
    """What is imported inside gets an empty `Mock`, unless the real one is there already."""
    if MOCKS in sys.modules:
        yield
        return
    stand_in = ModuleType(MOCKS)
    stand_in.Mock = type("Mock", (), {})  # type: ignore[attr-defined]
    sys.modules[MOCKS] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(MOCKS) is stand_in:
            del sys.modules[MOCKS]


with without_mocks():
    from paramiko import MissingHostKeyPolicy

SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"


def fingerprint(key: PKey) -> str:
    """The key's fingerprint as OpenSSH prints it."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


COMPARE = "for key in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $key; done"


def unknown(host: str, key: PKey, file: str) -> HostKeyError:
    """The host's key is not known."""
    mark = fingerprint(key)
    return HostKeyError(
        f"the key of {host} is not known: {key.get_name()} {mark}",
        hint="compare it with the machine's own, in the console on your cloud's web page: "
        f"{COMPARE}\n"
        f"if it is one of those, add it to {file}, or pass --trust-host-key {mark}",
        code="host-key-unknown",
        fingerprint=mark,
    )


def another(host: str, key: PKey, trusted: str) -> HostKeyError:
    """A fingerprint was given, and the host's key has another one."""
    mark = fingerprint(key)
    return HostKeyError(
        f"the key of {host} is not the one you gave: it is {key.get_name()} {mark}, not {trusted}",
        hint="a host has a key of each kind: compare in the console on your cloud's web page: "
        f"{COMPARE}\nif none of them is {mark}, someone may be between you and the host",
        code="host-key-unknown",
        fingerprint=mark,
    )


def changed(host: str, key: PKey, file: str) -> HostKeyError:
    """The host's key is not the one that is known; `host` as known_hosts names it: `[vm]:2222`."""
    mark = fingerprint(key)
    return HostKeyError(
        f"the key of {host} has CHANGED: it is {key.get_name()} {mark} now",
        hint="someone may be between you and the host. If it was reinstalled: "
        f"ssh-keygen -R '{host}' -f {file}, then connect again",
        code="host-key-changed",
        fingerprint=mark,
    )


class Verify(MissingHostKeyPolicy):
    """Refuses a key that known_hosts does not list, but for one given fingerprint."""

    def __init__(self, file: str, trusted: str | None) -> None:
        self._file = file
        self._trusted = trusted.rstrip("=") if trusted else None

    def missing_host_key(self, client: SSHClient, hostname: str, key: PKey) -> None:
        """Returns when the key is trusted; raises HostKeyError otherwise."""
        if self._trusted is None:
            raise unknown(hostname, key, self._file)
        if fingerprint(key) != self._trusted:
            raise another(hostname, key, self._trusted)


def verify(
    connection: Connection, known_hosts: str, trusted: str | None, found: Resolved | None = None
) -> None:
    """Makes the connection, and each jump host before it, check its host key.

    A fingerprint that is trusted explicitly takes the place of known_hosts for the host itself;
    jump hosts always stand in known_hosts. `found`: what `ssh` says of them all.
    """
    hop, own, by_ssh = connection, trusted, found
    while hop is not None and not isinstance(hop, str):
        if by_ssh is None:
            named = hop.ssh_config.get("userknownhostsfile", known_hosts).split()[0]
            files = [SYSTEM_KNOWN_HOSTS, str(Path(named).expanduser())]
        else:
            own_file = str(Path(known_hosts).expanduser())  # ssh -G of a jump lacks it
            files, named = list(dict.fromkeys([*by_ssh.known_hosts, own_file])), known_hosts
            by_ssh = by_ssh.jump
        if own is None:
            for path in files:
                with contextlib.suppress(OSError):
                    hop.client.load_system_host_keys(path)
        hop.client.set_missing_host_key_policy(Verify(named, own))
        hop, own = hop.gateway, None
