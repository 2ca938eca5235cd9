"""One SSH connection to the host, with Fabric; everything runs over it.

Host keys are verified here: Fabric's own default is to accept any, even a changed one.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import sys
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from infrastructure.errors import HostKeyError, HostUnreachable
from infrastructure.files import content, expanded
from infrastructure.transport.base import Collector, Transport, by_lines, identity, lost, quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from paramiko import PKey, SSHClient

    from infrastructure.config.host import Host
    from infrastructure.transport.base import Dial
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
    import paramiko
    from fabric import Config, Connection
    from paramiko import MissingHostKeyPolicy
    from paramiko.hostkeys import InvalidHostKey

CHUNK = 65_536
KEEPALIVE = 15
STARTED_WITHIN = 30.0
SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"


class SshProgram:
    """A program at the other end of one channel."""

    def __init__(self, channel: paramiko.Channel, name: str) -> None:
        self._channel = channel
        self._name = name
        self._errors = Collector(iter(lambda: channel.recv_stderr(CHUNK), b""))
        self._held = bytearray()

    def write(self, data: bytes) -> None:
        """Sends to its standard input."""
        try:
            self._channel.sendall(data)
        except OSError:
            raise lost(self._name) from None

    def close_input(self) -> None:
        """Ends its standard input."""
        with contextlib.suppress(OSError, EOFError):
            self._channel.shutdown_write()

    def lines(self, silence: float | None = None) -> Iterator[bytes]:
        """Its standard output, line by line."""
        yield from by_lines(self._receive, self._held, self._name, silence)
        if self.wait(1.0) < 0 and not self._connected():
            raise lost(self._name)
        if self._held:
            yield bytes(self._held)

    def _receive(self, seconds: float | None) -> bytes:
        self._channel.settimeout(seconds)
        return self._channel.recv(CHUNK)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status; -1 when there is none."""
        if not self._channel.status_event.wait(timeout):
            return -1
        return self._channel.recv_exit_status()

    def errors(self) -> bytes:
        """What it wrote to standard error."""
        return self._errors.read()

    def _connected(self) -> bool:
        transport = self._channel.get_transport()
        return bool(transport and transport.is_active())


class SshTransport(Transport):
    """An open connection; host keys are verified before anything is sent."""

    def __init__(
        self,
        host: Host,
        trusted: str | None = None,
        dial: Dial | None = None,
        found: Resolved | None = None,
    ) -> None:
        self._connection = _connection(host) if found is None else _resolved(host, found)
        self.name = host.address
        verify(self._connection, host.known_hosts, trusted, found)
        _open(self._connection, host.known_hosts, dial)
        transport = self._connection.transport
        transport.set_keepalive(KEEPALIVE)
        self._transport: paramiko.Transport = transport

    def start(self, command: Sequence[str]) -> SshProgram:
        """Runs a command in the login shell; nothing secret may stand in it."""
        try:
            channel = self._transport.open_session(timeout=STARTED_WITHIN)
            channel.settimeout(STARTED_WITHIN)
            channel.exec_command(quote(command))
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise HostUnreachable(
                f"{self.name} refused to run a command: {_first_line(error)}",
                hint="the login may be restricted to a fixed command or to file transfer",
            ) from error
        return SshProgram(channel, self.name)

    def dial(self, address: str, port: int) -> paramiko.Channel:
        """A channel to where the host connects for us."""
        try:
            return self._transport.open_channel(
                "direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=STARTED_WITHIN
            )
        except paramiko.SSHException as error:
            raise OSError(f"{address}:{port} cannot be reached from the host") from error

    def close(self) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._connection.close()


def _connection(host: Host) -> Connection:
    """Fabric's connection as stack.yaml and ~/.ssh/config describe it, not yet open."""
    config = Config(overrides=OVERRIDES)
    options: dict[str, Any] = {}
    if host.identity:
        options["key_filename"] = identity(host)
    extra: dict[str, Any] = {}
    if host.jump:
        from infrastructure.config.host import in_short

        to = in_short(host.jump)
        port = int(to["port"]) if "port" in to else None
        extra["gateway"] = Connection(
            to["address"], user=to.get("user"), port=port, config=config.clone()
        )
    return Connection(
        host.address,
        user=host.user,
        port=host.port,
        config=config,
        connect_timeout=host.connect_timeout,
        connect_kwargs=options,
        **extra,
    )


OVERRIDES = {"run": {"hide": True}, "authentication": {"identities": []}}


def _resolved(host: Host, found: Resolved) -> Connection:
    """Fabric's connection as `ssh -G` says; no file of ssh is read again."""
    config = Config(overrides=OVERRIDES, ssh_config=paramiko.SSHConfig())

    def connection(to: Resolved) -> Connection:
        keys = {"key_filename": list(to.identities)} if to.identities else {}
        gateway = {"gateway": connection(to.jump)} if to.jump else {}
        return Connection(
            to.address,
            user=to.user,
            port=to.port,
            config=config.clone(),
            connect_timeout=host.connect_timeout,
            connect_kwargs=keys,
            **gateway,
        )

    return connection(found)


class NotLetInError(HostUnreachable):
    """The host refuses what paramiko offers; `ssh` itself may have more."""


def _open(connection: Connection, known_hosts: str, dial: Dial | None = None) -> None:
    where = f"{connection.user}@{connection.host}:{connection.port}"
    try:
        if dial is not None and not connection.gateway:
            begun = dial.take(connection.host, connection.port)
            if begun is not None:
                connection.connect_kwargs["sock"] = begun
        connection.open()
    except paramiko.BadHostKeyException as error:
        port = connection.port or 22
        name = (
            error.hostname
            if port == 22 or error.hostname[:1] == "["
            else f"[{error.hostname}]:{port}"
        )
        raise changed(name, error.key, known_hosts) from error
    except paramiko.PasswordRequiredException as error:
        raise NotLetInError(
            f"the key for {where} is locked by a passphrase", hint="ssh-add it to your agent"
        ) from error
    except (paramiko.AuthenticationException, paramiko.ssh_exception.IncompatiblePeer) as error:
        raise NotLetInError(
            f"{where} does not let us in: {_first_line(error)}",
            hint="check host.user and host.identity in stack.yaml, or your agent (ssh-add -l)",
        ) from error
    except (socket.gaierror, UnicodeError) as error:  # the latter: no name that there can be
        raise HostUnreachable(
            f"there is no host named {connection.host}", hint="check host.address in stack.yaml"
        ) from error
    except (OSError, EOFError, paramiko.SSHException) as error:
        if NOTHING_TO_OFFER in str(error):
            raise NotLetInError(
                f"there is no key to offer to {where}",
                hint="host.identity in stack.yaml names one, or ssh-add gives it to your agent",
            ) from error
        raise HostUnreachable(
            f"{where} cannot be reached: {_first_line(error)}",
            hint="is the machine running, and its firewall open for SSH?",
        ) from error


NOTHING_TO_OFFER = "No authentication methods available"
"""What paramiko says when it has neither a key nor a password."""


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


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
            files = [SYSTEM_KNOWN_HOSTS, str(expanded(named))]
        else:
            own_file = str(expanded(known_hosts))  # ssh -G of a jump lacks it
            files, named = list(dict.fromkeys([*by_ssh.known_hosts, own_file])), known_hosts
            by_ssh = by_ssh.jump
        if own is None:
            for path in files:
                # What cannot be read as a key lists none: the host is then unknown.
                with contextlib.suppress(OSError, UnicodeDecodeError, InvalidHostKey):
                    content(path, pipes=False)
                    hop.client.load_system_host_keys(path)
        hop.client.set_missing_host_key_policy(Verify(named, own))
        hop, own = hop.gateway, None
