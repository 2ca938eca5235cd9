"""What every transport offers, and what they share: lines, a relay, a connection begun early.

`LocalTransport` is this machine as the host: the same programs, without SSH.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import shlex
import socket
import socketserver
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol, Self, cast

from infrastructure.errors import GangwayError, HostUnreachable, UsageError
from infrastructure.files import expanded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from infrastructure.config.host import Host

LONGEST_LINE = 1_048_576
"""Bytes of a line that a host may send; ours have far fewer."""
CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended."""

    code: int
    output: bytes
    errors: bytes


class Program(Protocol):
    """A program that runs on the host, with its standard streams."""

    def write(self, data: bytes) -> None:
        """Sends to its standard input; HostUnreachable when the connection is gone."""

    def close_input(self) -> None:
        """Ends its standard input."""

    def lines(self, silence: float | None = None) -> Iterator[bytes]:
        """Its standard output, line by line, until it ends; a later call goes on from there.

        Raises HostUnreachable when no whole line came for `silence` seconds, GangwayError when one
        has more than `LONGEST_LINE` bytes.
        """

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status; negative when it was killed or the connection was lost."""

    def errors(self) -> bytes:
        """What it wrote to standard error, so far."""


class Transport(Protocol):
    """An open way to a host."""

    name: str
    """The host as a person would write it."""

    def start(self, command: Sequence[str]) -> Program:
        """Starts a program; nothing secret may stand in `command`."""

    @contextlib.contextmanager
    def forward(self, address: str, port: int, local_port: int) -> Iterator[int]:
        """A port of 127.0.0.1 here that leads to `address:port` as the host reaches it."""
        with relay(lambda: self.dial(address, port), local_port) as bound:
            yield bound

    def dial(self, address: str, port: int) -> Any:
        """A socket, or what behaves like one, to `address:port` as the host reaches it.

        OSError when the host cannot connect there.
        """

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run(transport: Transport, command: Sequence[str], data: bytes = b"") -> Completed:
    """Runs a command to its end."""
    program = transport.start(command)
    if data:
        program.write(data)
    program.close_input()
    output = b"".join(program.lines())
    return Completed(program.wait(), output, program.errors())


def quote(command: Sequence[str]) -> str:
    """A command as one line for a POSIX shell."""
    return shlex.join(command)


def lost(name: str) -> HostUnreachable:
    """The connection broke while something ran."""
    return HostUnreachable(
        f"the connection to {name} was lost",
        hint="the host ends what it had begun on its own; ./deploy.py status shows the outcome",
        code="connection-lost",
    )


def by_lines(
    receive: Callable[[float | None], bytes], held: bytearray, name: str, silence: float | None
) -> Iterator[bytes]:
    """The lines that `receive` gives piece by piece until it gives nothing; the rest in `held`.

    `receive` gets the seconds that are left until the line must be whole, and raises TimeoutError
    after them: a host that sends a byte now and then is as silent as one that sends none.
    """
    while True:
        until = None if silence is None else time.monotonic() + silence
        while (end := held.find(b"\n")) < 0:
            if len(held) > LONGEST_LINE:
                raise too_long(name)
            left = None if until is None else until - time.monotonic()
            try:
                if left is not None and left <= 0:
                    raise TimeoutError
                piece = receive(left)
            except TimeoutError:
                raise lost(name) from None
            if not piece:
                return
            held += piece
        if end > LONGEST_LINE:
            raise too_long(name)
        line = bytes(held[: end + 1])
        del held[: end + 1]
        yield line


def too_long(name: str) -> GangwayError:
    """A line that no program of ours would send."""
    return GangwayError(
        f"{name} sends a line of more than {LONGEST_LINE // 1024} KB",
        hint="is it the machine that you mean, and does a login script print something?",
        code="protocol",
    )


class Collector(threading.Thread):
    """Reads a stream to its end in the background and keeps its last 64 KB."""

    LIMIT = 65_536

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__(daemon=True)
        self._chunks = chunks
        self._kept = bytearray()
        self.start()

    def run(self) -> None:
        """Until the stream ends, however it ends."""
        try:
            for chunk in self._chunks:
                self._kept += chunk
                del self._kept[: -self.LIMIT]
        except (OSError, EOFError):
            return

    def read(self, timeout: float = 2.0) -> bytes:
        """All of it, or what there is after `timeout` seconds."""
        self.join(timeout)
        return bytes(self._kept)


RELAY_CHUNK = 65_536
log = logging.getLogger(__name__)


class RelayServer(socketserver.ThreadingTCPServer):
    """Ends with the command, whatever is still open."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True  # the same port again, right after Ctrl-C

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One connection failed, and with it no more; nothing of it reaches the terminal."""
        log.debug("a tunnelled connection failed: %s", sys.exc_info()[1])


def port_taken(port: int, error: OSError) -> UsageError:
    """A port of this machine that `--port` names, and that cannot be listened on."""
    return UsageError(
        f"port {port} of 127.0.0.1 cannot be used: {error.strerror}",
        hint="without --port a free one is taken",
        code="local-port-taken",
    )


@contextlib.contextmanager
def relay(open_far: Callable[[], Any], local_port: int) -> Iterator[int]:
    """Listens on 127.0.0.1 (0: a free port) for the length of the block.

    `open_far` gives a socket, or what behaves like one, to the far end; OSError ends the one
    connection that it was for.
    """

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError, EOFError), contextlib.closing(open_far()) as far:
                back = threading.Thread(target=_pump, args=(far, self.request), daemon=True)
                back.start()
                _pump(self.request, far)
                back.join()

    try:
        listening = RelayServer(("127.0.0.1", local_port), Handler)
    except OSError as error:
        raise port_taken(local_port, error) from None
    with listening as server:
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def _pump(source: Any, target: Any) -> None:
    """Until one side ends; then the other learns of it."""
    with contextlib.suppress(OSError, EOFError):
        while chunk := source.recv(RELAY_CHUNK):
            target.sendall(chunk)
    with contextlib.suppress(OSError, EOFError):
        target.shutdown(socket.SHUT_WR)


SSH_PORT = 22


def identity(host: Host) -> str:
    """The private key that stack.yaml names."""
    path = expanded(host.identity or "")
    if not path.is_file():
        raise UsageError(
            f"there is no identity file {path}",
            hint="host.identity in stack.yaml names the private key, such as ~/.ssh/id_ed25519",
            code="identity-missing",
        )
    return str(path)


class Dial:
    """Connects to where stack.yaml says that the host is.

    `~/.ssh/config` may lead elsewhere: `take` gives the socket only for the right place.
    """

    def __init__(self, host: Host) -> None:
        self._place = (host.address, host.port or SSH_PORT)
        self._timeout = host.connect_timeout
        self._socket: socket.socket | None = None
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._socket = socket.create_connection(self._place, self._timeout)
        except OSError as error:
            self._error = error  # raised again by `take`
        except UnicodeError:  # a part of the name is empty or longer than 63 letters
            self._error = socket.gaierror(socket.EAI_NONAME, "no name of a host")

    def take(self, address: str, port: int) -> socket.socket | None:
        """The connected socket, once; None when it leads to another place.

        Raises:
            OSError: that place cannot be reached.
        """
        if (address, port) != self._place:
            return None
        self._thread.join()
        if self._error is not None:
            raise self._error
        found, self._socket = self._socket, None
        return found

    def close(self) -> None:
        """Closes what nobody took."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()


class LocalProgram:
    """The program of the host as a child process of this one, for a sandbox."""

    def __init__(self, command: Sequence[str], name: str = "this machine") -> None:
        self.name = name
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._input = cast("IO[bytes]", self._process.stdin)
        self._output = cast("IO[bytes]", self._process.stdout)
        self._held = bytearray()
        errors = cast("IO[bytes]", self._process.stderr)
        self._errors = Collector(iter(lambda: errors.read(CHUNK), b""))

    def write(self, data: bytes) -> None:
        """Sends to its standard input."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._input.write(view) :]
        except (BrokenPipeError, ValueError):  # ended, or closed after it ended
            raise lost(self.name) from None

    def close_input(self) -> None:
        """Ends its standard input."""
        with contextlib.suppress(BrokenPipeError):
            self._input.close()

    def lines(self, silence: float | None = None) -> Iterator[bytes]:
        """Its standard output, line by line."""
        yield from by_lines(self._receive, self._held, self.name, silence)
        if self._held:
            yield bytes(self._held)

    def _receive(self, seconds: float | None) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            if not selector.select(seconds):
                raise TimeoutError
        return self._output.read(CHUNK)

    def wait(self, timeout: float | None = None) -> int:
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._errors.read()
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                with contextlib.suppress(OSError):
                    pipe.close() if pipe is not None else None

    def errors(self) -> bytes:
        """What it wrote to standard error."""
        return self._errors.read()


class LocalTransport(Transport):
    """Runs programs as children of this process."""

    name = "this machine"

    def start(self, command: Sequence[str]) -> LocalProgram:
        """Starts a child in a session of its own, so that Ctrl-C reaches only us."""
        return LocalProgram(command)

    @contextlib.contextmanager
    def forward(self, address: str, port: int, local_port: int) -> Iterator[int]:
        """What lies on loopback is its own end; to anything else a small relay leads."""
        if address == "127.0.0.1":
            yield port
            return
        with super().forward(address, port, local_port) as bound:
            yield bound

    def dial(self, address: str, port: int) -> socket.socket:
        """A connection of our own."""
        return socket.create_connection((address, port))

    def close(self) -> None: ...
