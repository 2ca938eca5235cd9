"""The user's own `ssh`: it says how a host is reached, and reaches those that paramiko cannot.

`resolve` asks `ssh -G`, which knows Include, Match and every other rule of ssh_config(5). What
paramiko does not do (certificates, `HostKeyAlias`, security keys, another agent, a ProxyCommand)
goes over `ssh` itself: one connection that all programs and tunnels share (ControlMaster).
"""

from __future__ import annotations

import contextlib
import getpass
import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from infrastructure.config.terms import KNOWN_HOSTS
from infrastructure.errors import GangwayError, HostKeyError, HostUnreachable
from infrastructure.files import content, expanded
from infrastructure.transport.base import SSH_PORT, LocalProgram, Transport, lost, quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from infrastructure.config.host import Host

RESOLVED_WITHIN = 30.0
"""Seconds; a `Match exec` may ask something."""
IDLE_SECONDS = 300
"""After these a connection ends that nobody closed, because this program was killed."""
BEYOND_PARAMIKO = {
    "hostkeyalias": "HostKeyAlias",
    "certificatefile": "CertificateFile",
    "proxycommand": "ProxyCommand",
    "identityagent": "IdentityAgent",
    "knownhostscommand": "KnownHostsCommand",
    "pkcs11provider": "PKCS11Provider",
    "revokedhostkeys": "RevokedHostKeys",
    "bindaddress": "BindAddress",
    "bindinterface": "BindInterface",
    "addressfamily": "AddressFamily",
}
USUAL = frozenset(("none", "", "ssh_auth_sock", "any"))
"""Values of these that ask for nothing."""
COMMANDS_OF_OURS = {
    "ClearAllForwardings": "yes",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "SessionType": "default",
    "StdinNull": "no",
    "ForkAfterAuthentication": "no",
}
"""What a person sets for a terminal of their own, such as `RemoteCommand tmux`."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """How `ssh` would reach a host. `needs`: what of it only `ssh` itself can do; empty: nothing.

    `identities` are files that are there, `known_hosts` those with trusted keys.
    """

    address: str
    port: int
    user: str
    identities: tuple[str, ...] = ()
    known_hosts: tuple[str, ...] = ()
    jump: Resolved | None = None
    needs: str = ""


def program() -> str | None:
    """The `ssh` of this machine."""
    return shutil.which("ssh")


def arguments(host: Host) -> list[str]:
    """The host as words for `ssh`, before the command: what stack.yaml says outranks its files."""
    words = _own_home()
    options: dict[str, object] = {
        **COMMANDS_OF_OURS,
        "User": host.user,
        "Port": host.port,
        "IdentityFile": host.identity and _path(host.identity),
        "ProxyJump": host.jump,
        "ConnectTimeout": max(1, round(host.connect_timeout)),
    }
    if host.known_hosts != KNOWN_HOSTS:
        options["UserKnownHostsFile"] = _path(host.known_hosts)
    for name, value in options.items():
        words += [] if value is None else ["-o", f"{name}={value}"]
    return [*words, "--", host.address]


def by_hand(host: Host) -> str:
    """The `ssh` that a person types to come to the same host in the same way."""
    words = ["ssh", *_own_home()]
    for flag, value in (
        ("-l", host.user),
        ("-p", host.port),
        ("-i", host.identity),
        ("-J", host.jump),
    ):
        words += [] if value is None else [flag, str(value)]
    if host.known_hosts != KNOWN_HOSTS:
        words += ["-o", f"UserKnownHostsFile={_path(host.known_hosts)}"]
    return shlex.join([*words, host.address])


def _path(name: str) -> str:
    """A file's name as ssh_config(5) has it: blanks within quotes, no tokens."""
    plain = name.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"'


def _own_home() -> list[str]:
    """`ssh` looks into the home of the password database; everything else here follows $HOME."""
    config = Path("~/.ssh/config").expanduser()
    with contextlib.suppress(KeyError):
        if Path(pwd.getpwuid(os.getuid()).pw_dir) != Path.home() and config.exists():
            return ["-F", str(config)]
    return []


class Resolving:
    """`ssh -G`, while something else loads."""

    def __init__(self, host: Host) -> None:
        self._host = host
        found = program()
        self._process = found and subprocess.Popen(
            [found, "-G", *arguments(host)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def result(self, passed: tuple[str, ...] = ()) -> Resolved | None:
        """None: there is no `ssh` here.

        Raises:
            HostUnreachable: its configuration is wrong.
        """
        if not self._process:
            return None
        try:
            output, errors = self._process.communicate(timeout=RESOLVED_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            output, errors = b"", b"it does not answer"
        if self._process.returncode != 0:
            said = _first(errors.decode(errors="replace"))
            raise HostUnreachable(
                f"ssh does not understand its configuration: {said}",
                hint=f"ssh -G {self._host.address} says the same; mend ~/.ssh/config",
                code="ssh-config",
            )
        return resolved(output.decode(errors="replace"), self._host, passed)


def resolve(host: Host, passed: tuple[str, ...] = ()) -> Resolved | None:
    """How `ssh` would reach it; None without an `ssh` here. `passed`: the way through jump hosts.

    Raises:
        HostUnreachable: its configuration is wrong, or the way leads in a circle.
    """
    return Resolving(host).result(passed)


def resolved(text: str, host: Host, passed: tuple[str, ...] = ()) -> Resolved:
    """What `ssh -G` printed."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        found.setdefault(name.lower(), []).append(value)

    def one(name: str) -> str:
        value = found.get(name, [""])[0]
        return "" if value.lower() == "none" else value

    identities = [str(expanded(each.replace("%%", "%"))) for each in found.get("identityfile", [])]
    known = [
        str(expanded(path))
        for name in ("globalknownhostsfile", "userknownhostsfile")
        for path in one(name).split()
    ]
    jump, needs = _jump(one("proxyjump"), passed), _needs(found, identities, known)
    return Resolved(
        address=one("hostname") or host.address,
        port=int(one("port") or SSH_PORT),
        user=one("user") or getpass.getuser(),
        identities=tuple(each for each in identities if Path(each).is_file()),
        known_hosts=tuple(known),
        jump=jump,
        needs=needs or (jump.needs if jump else ""),
    )


def _jump(named: str, passed: tuple[str, ...]) -> Resolved | None:
    """The jump host; of several only `ssh` itself knows the way. `passed`: those before it."""
    if not named:
        return None
    if named in passed:
        raise HostUnreachable(
            f"the jump hosts of ~/.ssh/config lead in a circle: {' -> '.join((*passed, named))}",
            hint=f"a block that holds for {named} too, such as Host *, gives it a ProxyJump; write"
            f" Host * !{named}, or ProxyJump none for it",
            code="ssh-config",
        )
    if "," in named:
        return Resolved(named, SSH_PORT, "", needs="several jump hosts")
    from pydantic import ValidationError

    from infrastructure.config.host import Host

    try:
        return resolve(Host.model_validate(named), (*passed, named))
    except ValidationError:  # a name that `ssh` takes, and stack.yaml does not
        return Resolved(named, SSH_PORT, "", needs="a jump host of an unusual name")


def _needs(found: dict[str, list[str]], identities: list[str], known: list[str]) -> str:
    for key, name in BEYOND_PARAMIKO.items():
        value = found.get(key, ["none"])[0]
        if value.lower() not in USUAL:
            return name
    if any(re.search(r"%|\$\{", each.replace("%%", "")) for each in found.get("identityfile", [])):
        return "a token in IdentityFile"
    for identity in identities:
        with contextlib.suppress(OSError):
            if content(identity + ".pub", pipes=False).startswith(b"sk-"):
                return "a security key"
        if Path(identity + "-cert.pub").is_file():
            return "a certificate of the user"
    for path in known:
        with contextlib.suppress(OSError):
            text = content(path, pipes=False).decode(errors="replace")
            if re.search(r"^@(cert-authority|revoked)\s", text, re.MULTILINE):
                return "a host authority in known_hosts"
    return ""


# --- over ssh itself ------------------------------------------------------------------------------
class OpensshProgram(LocalProgram):
    """A program on the host, at the other end of an `ssh` that shares the one connection."""

    def __init__(self, command: Sequence[str], name: str) -> None:
        super().__init__(command, name)

    def lines(self, silence: float | None = None) -> Iterator[bytes]:
        """Its standard output, line by line."""
        yield from super().lines(silence)
        if self._process.poll() == 255 and b"closed by" in self.errors():
            raise lost(self.name)


@dataclass
class OpensshTransport(Transport):
    """A connection of `ssh`, which checks the host's key itself and asks for a passphrase."""

    host: Host
    trusted: str | None = None
    _folder: tempfile.TemporaryDirectory[str] = field(
        default_factory=lambda: tempfile.TemporaryDirectory(prefix="gangway-ssh-"), init=False
    )

    _tunnels: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.name = self.host.address
        self._ssh = program() or "ssh"
        self._control = f"{self._folder.name}/control"
        try:
            self._connect()
        except BaseException:
            self._folder.cleanup()
            raise

    def _connect(self) -> None:
        person = sys.stdin.isatty() and sys.stderr.isatty()
        options = {
            "BatchMode": "no" if person else "yes",
            "StrictHostKeyChecking": "yes",
            "ControlMaster": "yes",
            "ControlPersist": IDLE_SECONDS,
            "ServerAliveInterval": 15,
            "LogLevel": "ERROR",
            **self._trust(),
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        with tempfile.TemporaryFile() as errors:  # a pipe would stay open in the background
            done = subprocess.run(
                [self._ssh, "-f", "-N", "-S", self._control, *words, *arguments(self.host)],
                stdin=None if person else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                check=False,
            )
            errors.seek(0)
            if done.returncode != 0:
                raise refused(self.host, errors.read().decode(errors="replace"))

    def _trust(self) -> dict[str, str]:
        """One fingerprint instead of the files with known hosts."""
        if self.trusted is None:
            return {}
        mark = self.trusted.rstrip("=")
        return {
            "KnownHostsCommand": f"/bin/sh -c 'test %f = {mark} && echo %H %t %K; true'",
            "UserKnownHostsFile": "/dev/null",
            "GlobalKnownHostsFile": "/dev/null",
        }

    def _shared(self, *words: str) -> list[str]:
        return [
            self._ssh,
            "-S",
            self._control,
            "-o",
            "ControlMaster=no",
            "-o",
            "BatchMode=yes",
            *words,
        ]

    def start(self, command: Sequence[str]) -> OpensshProgram:
        """Runs a command in the login shell; nothing secret may stand in it."""
        words = self._shared("-T", *arguments(self.host), quote(command))
        return OpensshProgram(words, self.name)

    def dial(self, address: str, port: int) -> socket.socket:
        """A socket whose other end is where the host connects for us."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                self._shared("-W", f"[{address}]:{port}", *arguments(self.host)),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._tunnels = [one for one in self._tunnels if one.poll() is None] + [process]
        return ours

    def close(self) -> None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                self._shared("-O", "exit", *arguments(self.host)),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=5,
                check=False,
            )
        for tunnel in self._tunnels:
            tunnel.kill()
            tunnel.wait()
        self._folder.cleanup()


def refused(host: Host, errors: str) -> GangwayError:
    """What `ssh` said, as the failure that it is."""
    where, last = host.address, _last(errors)
    if "IDENTIFICATION HAS CHANGED" in errors:
        # Under which name, and in which file, depends on all that ssh is configured with.
        old = re.search(r"^Offending .*key in (.+):(\d+)", errors, re.MULTILINE)
        mend = f"delete line {old[2]} of {old[1]}" if old else "take its old key out of known hosts"
        return HostKeyError(
            f"the key of {where} has CHANGED",
            hint="someone may be between you and the host. If it was reinstalled: "
            f"{mend}, then connect again",
            code="host-key-changed",
        )
    if "verification failed" in errors:
        mark = re.search(r"SHA256:[A-Za-z0-9+/]{43}", errors)
        return HostKeyError(
            f"the key of {where} is not known",
            hint=f"{by_hand(host)} shows its fingerprint: compare it in the console on your"
            " cloud's web page, and let ssh keep it",
            code="host-key-unknown",
            fingerprint=mark[0] if mark else "",
        )
    if "Permission denied" in errors:
        return HostUnreachable(
            f"{where} does not let us in: {last}",
            hint=f"{by_hand(host)} must work; on a terminal a passphrase is asked for",
        )
    if "resolve hostname" in errors:
        return HostUnreachable(
            f"there is no host named {where}", hint="check host.address in stack.yaml"
        )
    return HostUnreachable(
        f"{where} cannot be reached: {last}",
        hint="is the machine running, and its firewall open for SSH?",
    )


def _first(errors: str) -> str:
    return next((line.strip() for line in errors.splitlines() if line.strip()), "no reason given")


def _last(errors: str) -> str:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "ssh gives no reason"
