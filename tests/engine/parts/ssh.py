"""A real SSH server on a loopback port, with its own configuration, keys and users' file."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.closed_port import free_port
from tests.engine.parts.engine import ENGINE_HOST

SSHD = "/usr/sbin/sshd"


def make_key(path: Path) -> Path:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True)
    return path


def fingerprint(key: Path) -> str:
    command = ["ssh-keygen", "-lf", f"{key}.pub"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[1]


@dataclass
class SshServer:
    """A running sshd. Commands that it runs see the private engine as Docker's default."""

    folder: Path
    port: int
    host_key: Path
    client_key: Path
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return f"root@127.0.0.1:{self.port}"

    def known_hosts_line(self, port: int | None = None) -> str:
        kind, key, *_ = Path(f"{self.host_key}.pub").read_text().split()
        return f"[127.0.0.1]:{port or self.port} {kind} {key}\n"

    def logged(self) -> str:
        return (self.folder / "sshd.log").read_text()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)

    def kill(self) -> None:
        """Ends it and every session of it at once; what they have started goes on."""
        sessions = _children(self.process.pid)
        sessions += [below for each in sessions for below in _children(each)]
        for pid in (self.process.pid, *(each for each in sessions if _runs_sshd(each))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)

    def again(self) -> None:
        """Starts it once more, on the same port with the same keys."""
        self.process = subprocess.Popen(self.process.args)
        _until_it_listens(self.port, self.folder)


HIDE = 'for file in $0; do [ ! -e "$file" ] || mount --bind /dev/null "$file"; done; exec "$@"'


def start(
    folder: Path,
    *,
    environment: dict[str, str] | None = None,
    hidden: tuple[str, ...] = (),
    subsystem: str = "",
    before: tuple[str, ...] = (),
) -> SshServer:
    """Starts sshd in the foreground mode; `environment` adds to what its commands see.

    `hidden` are files of this machine that they find unusable; `subsystem`: one that it offers.
    `before` is put before the server's command, to limit it and what it starts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    host_key, client_key, port = make_key(folder / "host"), make_key(folder / "client"), free_port()
    allowed = folder / "authorized_keys"
    allowed.write_text(Path(f"{client_key}.pub").read_text())
    Path("/run/sshd").mkdir(exist_ok=True)
    # The machine's own package registry and trust settings reach builds through the base image.
    variables = {
        "DOCKER_HOST": ENGINE_HOST,
        "PATH": os.environ["PATH"],
        "HOME": str(folder),  # the machine's own shell settings stay out
        **(environment or {}),
    }
    config = folder / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\n"
        f"AuthorizedKeysFile {allowed}\nPidFile none\nUsePAM no\nStrictModes no\n"
        "PermitRootLogin prohibit-password\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nMaxStartups 50\nLogLevel VERBOSE\n"
        "SetEnv "
        + " ".join(f'"{name}={value}"' for name, value in variables.items())
        + "\n"
        + (f"Subsystem {subsystem}\n" if subsystem else "")
    )
    command = [SSHD, "-D", "-E", str(folder / "sshd.log"), "-f", str(config)]
    if hidden:
        command = ["unshare", "--mount", "sh", "-c", HIDE, " ".join(hidden), *command]
    process = subprocess.Popen([*before, *command])
    _until_it_listens(port, folder)
    return SshServer(folder, port, host_key, client_key, process)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text() if _lives(pid) else ""
    return [int(each) for each in text.split()]


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}/task/{pid}").exists()


def _runs_sshd(pid: int) -> bool:
    return _lives(pid) and Path(f"/proc/{pid}/comm").read_text().startswith("sshd")


def _until_it_listens(port: int, folder: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"sshd did not start: {(folder / 'sshd.log').read_text()}")
