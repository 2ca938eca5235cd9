"""The simulated Client Portal gateway: start, stop, its faults, HTTP and HTTPS on one port.

The first byte of a connection tells which it is: a TLS ClientHello starts with 0x16, an HTTP
request with a letter. It is peeked at, not taken, so that the TLS layer sees the whole handshake.

The certificate is what the real gateway's is: long expired, without a host's name, for TLS 1.2 at
most. It is made when the first TLS client appears, by the `openssl` command where there is one (the
gateway's image has it), otherwise by a child process with the `cryptography` package: neither is
loaded into the simulator, which has a small memory bar. With a folder given the certificate is kept
there, so that a client which pinned it still trusts the simulator after a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.http import HEAD_LIMIT, Request, Response, serve_connection
from simulator.portal.data import PortalData
from simulator.portal.routes import PortalRoutes
from simulator.portal.session import PortalSession, RequestLimits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from simulator.world import World

TLS_HANDSHAKE = b"\x16"
FIRST_BYTE_SECONDS = 10.0
MAXIMUM_CONNECTIONS = 256
SUBJECT = {
    "C": "US", "ST": "CT", "L": "Greenwich", "O": "Interactive Brokers", "OU": "Client Portal",
    "CN": "Client Portal Web API",
}  # fmt: skip
BEGIN, END = "20190210162602Z", "20190511162602Z"
"""The real gateway's certificate ran out in 2019, and names no host."""
_AUTHORITY = """[ca]
default_ca = own
[own]
database = index.txt
new_certs_dir = .
rand_serial = yes
policy = any
[any]
C = optional
ST = optional
L = optional
O = optional
OU = optional
CN = optional
"""

_WITH_CRYPTOGRAPHY = """
import datetime, json, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
subject, begin, end = json.loads(sys.argv[3]), sys.argv[4], sys.argv[5]
names = {each: getattr(x509.NameOID, word) for each, word in (
    ("C", "COUNTRY_NAME"), ("ST", "STATE_OR_PROVINCE_NAME"), ("L", "LOCALITY_NAME"),
    ("O", "ORGANIZATION_NAME"), ("OU", "ORGANIZATIONAL_UNIT_NAME"), ("CN", "COMMON_NAME"))}
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
name = x509.Name([x509.NameAttribute(names[each], value) for each, value in subject.items()])
moments = [datetime.datetime.strptime(each, "%Y%m%d%H%M%SZ") for each in (begin, end)]
certificate = (
    x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    .serial_number(x509.random_serial_number()).not_valid_before(moments[0])
    .not_valid_after(moments[1]).sign(key, hashes.SHA256())
)
open(sys.argv[1], "wb").write(key.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
open(sys.argv[2], "wb").write(certificate.public_bytes(serialization.Encoding.PEM))
"""


class Listener:
    """Accepts connections on one address and serves each by `respond`.

    Args:
        respond: answers one request.
        tls: makes the TLS context; called once, when the first TLS client connects.
    """

    def __init__(
        self,
        respond: Callable[[Request], Awaitable[Response]],
        tls: Callable[[], Awaitable[ssl.SSLContext]],
    ) -> None:
        self._respond = respond
        self._make_tls = tls
        self._tls: asyncio.Task[ssl.SSLContext] | None = None
        self._socket: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listens; returns the port (useful with port 0)."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=64)
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._accept, self._socket)
        return int(self._socket.getsockname()[1])

    async def close(self) -> None:
        """Closes the port and every connection."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        tasks = [*self._tasks, *([] if self._tls is None else [self._tls])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except OSError:  # gone again, or no descriptor is free
            return
        if len(self._tasks) >= MAXIMUM_CONNECTIONS:
            connection.close()
            return
        task = asyncio.create_task(self._serve(connection))
        self._tasks.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            if done.cancelled():  # perhaps before it had begun
                connection.close()

        task.add_done_callback(ended)

    async def _serve(self, connection: socket.socket) -> None:
        # A client that goes away at any point is no business of the simulator's.
        with contextlib.suppress(OSError, TimeoutError):
            await self._serve_connection(connection)

    async def _serve_connection(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            first = await _peek(connection)
            context = await self._context() if first == TLS_HANDSHAKE else None
        except BaseException:
            connection.close()
            raise
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=HEAD_LIMIT, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=context)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        await serve_connection(reader, writer, self._respond)

    async def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = asyncio.ensure_future(self._make_tls())
        return await asyncio.shield(self._tls)


async def _peek(connection: socket.socket) -> bytes:
    """The first byte that the client sends, left in the socket; empty when it closed."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(connection, wake)
    try:
        async with asyncio.timeout(FIRST_BYTE_SECONDS):
            await readable
    finally:
        loop.remove_reader(connection)
    return connection.recv(1, socket.MSG_PEEK)


FAULTS = (
    "portal-desync",
    "portal-competing",
    "portal-logged-out",
    "portal-500",
    "portal-timeout",
    "portal-429",
    "portal-first-status",
)


async def start_portal(world: World, listen: str, port: int) -> PortalServer:
    """Serves the simulated broker's Client Portal; the result has `port` and `close()`."""
    folder = world.options.portal_certificate
    server = PortalServer(
        world.clock.time,
        world.accounts,
        certificate_folder=Path(folder) if folder else None,
        data=PortalData(world),
    )
    for name in FAULTS:
        world.faults.on_start(name, partial(_begin, server, name))
        world.faults.on_end(name, partial(_end, server, name))
    await server.start(listen, port)
    return server


def _begin(server: PortalServer, name: str, _: object) -> None:
    server.begin_fault(name)


def _end(server: PortalServer, name: str, _: object) -> None:
    server.end_fault(name)


class PortalServer:
    """A Client Portal gateway on one port, HTTP and HTTPS alike.

    Args:
        now: the simulator's clock, in seconds; winding it makes sessions age.
        accounts: account names to report.
        certificate_folder: where the TLS key and certificate are kept; None: not kept.
        data: what answers calls about orders, contracts, prices and positions.
    """

    def __init__(
        self,
        now: Callable[[], float],
        accounts: Sequence[str] = ("DU1234567",),
        *,
        certificate_folder: Path | None = None,
        data: PortalData | None = None,
    ) -> None:
        self.port = 0
        self.session = PortalSession(now)
        self.limits = RequestLimits(now)
        self.routes = PortalRoutes(self.session, self.limits, now, accounts, data)
        self._listener = Listener(self.routes.respond, lambda: server_context(certificate_folder))

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listens; returns the port, which is also kept in `port`."""
        self.port = await self._listener.start(host, port)
        return self.port

    async def close(self) -> None:
        """Closes the port and every connection."""
        await self._listener.close()

    def begin_fault(self, name: str) -> None:
        """Starts one of `FAULTS`; a name of another part of the simulator is ignored.

        A desync is an event, not a condition: a recovery mends it even before the fault is over,
        as it would the real thing.  `portal-competing` lasts until it is fought or over.
        """
        starts: dict[str, Callable[[], None]] = {
            "portal-desync": self.session.desync,
            "portal-competing": self.session.compete,
            "portal-logged-out": self.session.logout,
            "portal-500": lambda: setattr(self.routes, "failing", True),
            "portal-timeout": lambda: setattr(self.routes, "hanging", True),
            "portal-429": self.limits.penalise,
            "portal-first-status": self.session.mislead,
        }
        if name in starts:
            starts[name]()

    def end_fault(self, name: str) -> None:
        """Ends a fault; after `portal-logged-out` a person has signed in again."""
        ends: dict[str, Callable[[], None]] = {
            "portal-competing": self.session.leave_competing,
            "portal-logged-out": self.session.login,
            "portal-500": lambda: setattr(self.routes, "failing", False),
            "portal-timeout": lambda: setattr(self.routes, "hanging", False),
            "portal-429": self.limits.forgive,
        }
        if name in ends:
            ends[name]()


class CertificateError(Exception):
    """No certificate could be made: neither openssl nor cryptography is there."""


async def server_context(folder: Path | None = None) -> ssl.SSLContext:
    """A TLS server context with a self-signed certificate.

    Args:
        folder: where `portal-key.pem` and `portal-certificate.pem` are kept; None makes a
            certificate of this process's own, whose key does not stay on disk.

    Raises:
        CertificateError: no certificate could be made.
    """
    return await asyncio.to_thread(_server_context, folder)


def _server_context(folder: Path | None) -> ssl.SSLContext:
    if folder is not None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _load_or_create(folder)
    with tempfile.TemporaryDirectory(prefix="portal-") as temporary:
        return _load_or_create(Path(temporary))


def _load_or_create(folder: Path) -> ssl.SSLContext:
    key, certificate = folder / "portal-key.pem", folder / "portal-certificate.pem"
    if not (key.exists() and certificate.exists()):
        _create(key, certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def _create(key: Path, certificate: Path) -> None:
    os.close(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    problem = (
        _by_openssl(key, certificate) if shutil.which("openssl") else _by_package(key, certificate)
    )
    if problem is not None:
        key.unlink(missing_ok=True)
        raise CertificateError(problem)


def _by_openssl(key: Path, certificate: Path) -> str | None:
    """Make both with the command; gives what went wrong."""
    subject = "".join(f"/{name}={value}" for name, value in SUBJECT.items())
    with tempfile.TemporaryDirectory(prefix="portal-") as folder:
        (Path(folder) / "authority").write_text(_AUTHORITY)
        (Path(folder) / "index.txt").touch()
        request = ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", subject]
        sign = ["openssl", "ca", "-batch", "-selfsign", "-config", "authority", "-md", "sha256"]
        sign += ["-startdate", BEGIN, "-enddate", END, "-notext", "-in", "request"]
        key, certificate = key.absolute(), certificate.absolute()
        return _run([*request, "-keyout", str(key), "-out", "request"], folder) or _run(
            [*sign, "-keyfile", str(key), "-out", str(certificate)], folder
        )


def _by_package(key: Path, certificate: Path) -> str | None:
    """Make both with `cryptography`; gives what went wrong."""
    words = [str(key), str(certificate), json.dumps(SUBJECT), BEGIN, END]
    return _run([sys.executable, "-W", "ignore", "-c", _WITH_CRYPTOGRAPHY, *words])


def _run(command: list[str], folder: str | None = None) -> str | None:
    result = subprocess.run(command, capture_output=True, timeout=30, check=False, cwd=folder)
    if result.returncode == 0:
        return None
    return result.stderr.decode(errors="replace").strip()[-300:] or "it failed"
