"""An SSH server as a process of its own, for tests that need no engine and no root.

`python -m tests.deploy.transport.server FOLDER [FORCED]` lets the key `client` in and runs
commands, or, whatever is asked for, only the forced one: a host that is not what it seems.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh

FORCED = sys.argv[2] if __name__ == "__main__" and len(sys.argv) > 2 else ""
PROJECT = Path(__file__).resolve().parents[3]


@dataclass
class Server:
    port: int
    host_key: asyncssh.SSHKey
    client_key: Path
    folder: Path

    @property
    def fingerprint(self) -> str:
        return self.host_key.get_fingerprint("sha256")

    def known(self, key: asyncssh.SSHKey | None = None) -> Path:
        """A known_hosts file with this key, or the server's own."""
        path = self.folder / "known_hosts"
        shown = (key or self.host_key).export_public_key("openssh").decode().strip()
        path.write_text(f"[127.0.0.1]:{self.port} {shown}\n")
        return path


def new_key(path: Path) -> asyncssh.SSHKey:
    key = asyncssh.generate_private_key("ssh-ed25519")
    path.write_bytes(key.export_private_key("openssh"))
    path.chmod(0o600)
    return key


@contextmanager
def server(folder: Path, forced: str = "") -> Iterator[Server]:
    """A running server with keys of its own."""
    host_key = new_key(folder / "host")
    client = new_key(folder / "client")
    (folder / "authorized").write_bytes(client.export_public_key("openssh"))
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(folder), *([forced] if forced else [])],
        stdout=subprocess.PIPE,
        cwd=PROJECT,
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            port = int(process.stdout.readline())
            yield Server(port, host_key, folder / "client", folder)
        finally:
            process.kill()
            process.wait()


async def _run(process: asyncssh.SSHServerProcess[bytes]) -> None:
    child = await asyncio.create_subprocess_shell(
        FORCED or process.command or "true",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    await process.redirect_stdin(child.stdin)
    # Not redirected: an exit would cut off what is still on its way.
    await asyncio.gather(
        _forward(child.stdout, process.stdout), _forward(child.stderr, process.stderr)
    )
    process.exit(await child.wait())


async def _forward(source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
    while data := await source.read(65_536):
        target.write(data)
        await target.drain()


async def _serve(folder: Path) -> None:
    listener = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[str(folder / "host")],
        authorized_client_keys=str(folder / "authorized"),
        process_factory=_run,
        encoding=None,
    )
    print(listener.get_port(), flush=True)
    await listener.wait_closed()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
