"""SSH as the user's own `ssh` does it: its configuration, and a real sshd at the other end."""

from __future__ import annotations

import dataclasses
import os
import pty
import select
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from infrastructure.apply import bundle
from infrastructure.apply.protocol import encoding, events, requests
from infrastructure.config.host import Host
from infrastructure.errors import HostKeyError, HostUnreachable, UsageError
from infrastructure.prepare import AS_ROOT
from infrastructure.transport import Transport, connect_host
from infrastructure.transport.base import run
from infrastructure.transport.openssh import OpensshTransport, resolve
from infrastructure.transport.ssh import SshTransport
from tests.deploy.transport.server import PROJECT
from tests.engine.parts import ssh

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    not Path(ssh.SSHD).exists() or os.getuid() != 0, reason="needs sshd and root (make engine)"
)


@pytest.fixture
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssh.SshServer]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir(mode=0o700)
    running = ssh.start(tmp_path / "sshd")
    try:
        yield running
    finally:
        running.stop()


def configured(sshd: ssh.SshServer, tmp_path: Path, *lines: str, known: str | None = None) -> Host:
    """`ssh myvm` as a user would have it, behind an Include and a Match."""
    (tmp_path / "known").write_text(sshd.known_hosts_line() if known is None else known)
    (tmp_path / ".ssh/config").write_text(f"Include {tmp_path}/.ssh/more\n")
    (tmp_path / ".ssh/more").write_text(
        f"Host myvm\n  HostName 127.0.0.1\n  User root\n  Port {sshd.port}\n"
        f"  UserKnownHostsFile {tmp_path}/known\n  GlobalKnownHostsFile /dev/null\n"
        + "".join(f"  {line}\n" for line in lines)
        + f"Match host 127.0.0.1\n  IdentityFile {sshd.client_key}\n  IdentitiesOnly yes\n"
    )
    return Host(address="myvm")


def said(transport: Transport) -> str:
    with transport:
        return run(transport, ["echo", "it's", "$HOME"]).output.decode()


def test_a_host_behind_an_include_is_found(sshd: ssh.SshServer, tmp_path: Path) -> None:
    host = configured(sshd, tmp_path)
    found = resolve(host)
    assert found is not None
    assert (found.address, found.port, found.user, found.needs) == (
        "127.0.0.1",
        sshd.port,
        "root",
        "",
    )
    transport = connect_host(host)
    assert isinstance(transport, SshTransport)
    assert said(transport) == "it's $HOME\n"


def key_line(sshd: ssh.SshServer) -> str:
    return " ".join(sshd.known_hosts_line().split()[1:])


@pytest.mark.parametrize("cloud", [True, False])
def test_an_alias_of_the_key_is_looked_up(sshd: ssh.SshServer, tmp_path: Path, cloud: bool) -> None:
    """What `gcloud compute config-ssh` writes."""
    lines = ("HostKeyAlias compute.1234567890", "CheckHostIP no")
    known = f"{'compute.1234567890' if cloud else 'compute.9'} {key_line(sshd)}\n"
    host = configured(sshd, tmp_path, *lines, known=known)
    if not cloud:
        with pytest.raises(HostKeyError) as caught:
            connect_host(host)
        assert caught.value.code == "host-key-unknown"
        return
    transport = connect_host(host)
    assert isinstance(transport, OpensshTransport)
    assert said(transport) == "it's $HOME\n"


def test_a_host_authority_is_believed(sshd: ssh.SshServer, tmp_path: Path) -> None:
    authority = ssh.make_key(tmp_path / "authority")
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "vm", "-h", "-n", "127.0.0.1,myvm"]
    subprocess.run([*sign, f"{sshd.host_key}.pub"], check=True)
    sshd.stop()
    config = sshd.folder / "sshd_config"
    config.write_text(config.read_text() + f"HostCertificate {sshd.host_key}-cert.pub\n")
    sshd.again()
    known = f"@cert-authority * {(tmp_path / 'authority.pub').read_text()}"
    transport = connect_host(configured(sshd, tmp_path, known=known))
    assert isinstance(transport, OpensshTransport)
    assert said(transport) == "it's $HOME\n"


def test_a_proxy_command_is_run(sshd: ssh.SshServer, tmp_path: Path) -> None:
    """What AWS's Session Manager is reached with."""
    relay = tmp_path / "relay.py"
    relay.write_text(RELAY)
    host = configured(
        sshd, tmp_path, f"ProxyCommand sh -c '{sys.executable} {relay} %h %p'", "HostKeyAlias i-0a"
    )
    (tmp_path / "known").write_text(f"i-0a {key_line(sshd)}\n")
    assert said(connect_host(host)) == "it's $HOME\n"


RELAY = """
import os, select, socket, sys
far = socket.create_connection((sys.argv[1], int(sys.argv[2])))
while True:
    for ready in select.select([0, far], [], [])[0]:
        data = os.read(0, 65536) if ready == 0 else far.recv(65536)
        if not data:
            raise SystemExit
        far.sendall(data) if ready == 0 else os.write(1, data)
"""


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def test_the_agent_that_the_configuration_names_is_asked(
    sshd: ssh.SshServer, tmp_path: Path
) -> None:
    """1Password's agent has a socket of its own."""
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")])
    try:
        while not listens(tmp_path / "agent"):
            time.sleep(0.05)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(tmp_path / "agent")}
        subprocess.run(["ssh-add", "-q", str(sshd.client_key)], env=environment, check=True)
        sshd.client_key.unlink()
        transport = connect_host(configured(sshd, tmp_path, f"IdentityAgent {tmp_path}/agent"))
        assert isinstance(transport, OpensshTransport)
        assert said(transport) == "it's $HOME\n"
    finally:
        agent.terminate()
        agent.wait(10)


def test_one_connection_carries_programs_and_tunnels(sshd: ssh.SshServer, tmp_path: Path) -> None:
    with OpensshTransport(configured(sshd, tmp_path)) as transport:
        folder = transport._folder.name
        done = run(transport, ["sh", "-c", "cat; echo said >&2; exit 3"], b"sent")
        assert (done.code, done.output, done.errors) == (3, b"sent", b"said\n")
        with (
            transport.forward("127.0.0.1", sshd.port, 0) as port,
            socket.create_connection(("127.0.0.1", port), 10) as tunnel,
        ):
            assert tunnel.recv(4) == b"SSH-"
    assert sshd.logged().count("Accepted publickey") == 1
    assert not Path(folder).exists()


def test_other_keys_are_refused_and_one_fingerprint_can_be_trusted(
    sshd: ssh.SshServer, tmp_path: Path
) -> None:
    other = ssh.make_key(tmp_path / "other")
    kind, key, *_ = (tmp_path / "other.pub").read_text().split()
    host = configured(sshd, tmp_path, known=f"[127.0.0.1]:{sshd.port} {kind} {key}\n")
    with pytest.raises(HostKeyError) as caught:
        OpensshTransport(host)
    assert caught.value.code == "host-key-changed"
    # Neither the name that ssh looks for nor its file are those of stack.yaml.
    assert f"delete line 1 of {tmp_path}/known, then" in caught.value.hint
    host = configured(sshd, tmp_path, known="")
    with pytest.raises(HostKeyError) as caught:
        OpensshTransport(host)
    assert caught.value.code == "host-key-unknown"
    assert "myvm shows its fingerprint" in caught.value.hint
    with pytest.raises(HostKeyError):
        OpensshTransport(host, ssh.fingerprint(other))
    assert said(OpensshTransport(host, ssh.fingerprint(sshd.host_key))) == "it's $HOME\n"


def test_what_a_person_types_comes_to_the_same_host(sshd: ssh.SshServer, tmp_path: Path) -> None:
    """Without an entry of ~/.ssh/config all of it is in stack.yaml."""
    known = tmp_path / "known hosts"
    known.write_text("")
    host = Host(
        address="127.0.0.1",
        user="root",
        port=sshd.port,
        identity=str(sshd.client_key),
        known_hosts=str(known),
    )
    with pytest.raises(HostKeyError) as caught:
        OpensshTransport(host)
    command = caught.value.hint.partition(" shows its")[0]
    known.write_text(sshd.known_hosts_line())
    done = subprocess.run(
        f"{command} echo here", shell=True, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.stdout == "here\n", done.stderr


def test_a_stranger_is_told_to_try_ssh(sshd: ssh.SshServer, tmp_path: Path) -> None:
    (sshd.folder / "authorized_keys").write_text("")
    with pytest.raises(HostUnreachable, match="does not let us in"):
        connect_host(configured(sshd, tmp_path))


def test_a_wrong_configuration_is_named(sshd: ssh.SshServer, tmp_path: Path) -> None:
    with pytest.raises(HostUnreachable) as caught:
        connect_host(configured(sshd, tmp_path, "NoSuchOption yes"))
    assert caught.value.code == "ssh-config"
    assert "nosuchoption" in caught.value.message.lower()


ASKS = """
from infrastructure.config.host import Host
from infrastructure.transport import connect_host
from infrastructure.transport.base import run
with connect_host(Host(address="myvm")) as transport:
    print("HERE", run(transport, ["echo", "inside"]).output)
"""


def test_a_passphrase_is_asked_for_on_a_terminal(sshd: ssh.SshServer, tmp_path: Path) -> None:
    lock = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", str(sshd.client_key)]
    subprocess.run(lock, check=True)
    configured(sshd, tmp_path)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(PROJECT)
        os.execv(sys.executable, [sys.executable, "-c", ASKS])
    seen, answered, deadline = b"", False, time.monotonic() + 60
    while b"inside" not in seen and time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            try:
                seen += os.read(terminal, 4096)
            except OSError:
                break
        if b"passphrase" in seen and not answered:
            os.write(terminal, b"open sesame\n")
            answered = True
    os.waitpid(child, 0)
    os.close(terminal)
    assert b"inside" in seen, seen


SHELLS = ("sh", "csh", "tcsh", "fish", "bash")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("prints", ["", "Welcome to vm!\\nEnjoy", "no end of line"])
def test_each_login_shell_starts_our_programs(shell: str, prints: str, tmp_path: Path) -> None:
    """As sshd does: the line goes to the login's shell, which may print something first."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    for command, sent, answer in (
        (bundle.command(sudo=False), bundle.program() + CLOSE, HELLO),
        (AS_ROOT, b"echo '{\"step\": 1}'\n", b'{"step": 1}\n'),
    ):
        from infrastructure.transport.base import quote

        line = f"printf '{prints}'; {quote(command)}" if prints else quote(command)
        done = subprocess.run(
            [shell, "-c", line],
            input=sent,
            capture_output=True,
            env={**os.environ, "HOME": str(tmp_path)},
            timeout=60,
            check=False,
        )
        assert done.stdout.endswith(answer), done


HELLO = encoding.encode(events.Hello())
CLOSE = encoding.encode(requests.CloseRequest())


@pytest.mark.parametrize("shell", ["sh", "csh", "fish"])
def test_plan_copes_with_a_login_that_prints(
    shell: str, sshd: ssh.SshServer, tmp_path: Path
) -> None:
    from infrastructure.apply.session import Session
    from infrastructure.config.sandbox import sandbox

    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    sshd.stop()
    config = sshd.folder / "sshd_config"
    config.write_text(
        config.read_text()
        + f"ForceCommand printf 'Welcome!\\nno end'; exec {shell} -c \"$SSH_ORIGINAL_COMMAND\"\n"
    )
    sshd.again()
    heard: list[Any] = []

    class Listener:
        def event(self, event: events.Event) -> None:
            heard.append(event)

    target = sandbox()
    stack = target.stack.model_copy(update={"runtime": "compose", "folder": str(tmp_path)})
    target = dataclasses.replace(target, stack=stack)
    with (
        connect_host(configured(sshd, tmp_path)) as transport,
        Session(transport, target, Listener()) as session,
    ):
        session.begin()
        assert session.observe().release is None


def test_known_hosts_are_read_as_ssh_reads_them(sshd: ssh.SshServer, tmp_path: Path) -> None:
    """Patterns, an older key of the same kind beside the right one, and lines that are none."""
    ssh.make_key(tmp_path / "other")
    older = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    name = f"[127.0.0.1]:{sshd.port}"
    for known in (
        f"[127.0.0.*]:{sshd.port} {key_line(sshd)}\n",
        f"{name} {older}\n{name} {key_line(sshd)}\n",
        f"vm ssh-ed25519 AAAA!!!x\n{name} {key_line(sshd)}\n",
    ):
        assert said(connect_host(configured(sshd, tmp_path, known=known))) == "it's $HOME\n", known
    host = configured(sshd, tmp_path)
    line = f"{name} {key_line(sshd)} of m\u00fcller\n"
    (tmp_path / "known").write_bytes(line.encode("latin-1"))
    assert said(connect_host(host)) == "it's $HOME\n"
    for known, code in (
        (f"[127.0.0.*]:{sshd.port} {older}\n", "host-key-unknown"),
        (f"{name} {older}\n", "host-key-changed"),
    ):
        with pytest.raises(HostKeyError) as caught:
            connect_host(configured(sshd, tmp_path, known=known))
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        ("RevokedHostKeys {folder}/revoked", HostKeyError),
        ("AddressFamily inet6", HostUnreachable),
        ("BindAddress 192.0.2.1", HostUnreachable),
    ],
)
def test_what_would_stop_ssh_stops_us(
    line: str, refusal: type[Exception], sshd: ssh.SshServer, tmp_path: Path
) -> None:
    (tmp_path / "revoked").write_text(f"{key_line(sshd)}\n")
    with pytest.raises(refusal):
        connect_host(configured(sshd, tmp_path, line.format(folder=tmp_path)))


def test_what_is_set_for_a_terminal_does_not_reach_our_programs(
    sshd: ssh.SshServer, tmp_path: Path
) -> None:
    host = configured(
        sshd,
        tmp_path,
        *("HostKeyAlias vm", "RemoteCommand tmux", "RequestTTY force", "StdinNull yes"),
        *("LocalForward 9 localhost:9", "ForkAfterAuthentication yes", "SessionType none"),
        known=f"vm {key_line(sshd)}\n",
    )
    transport = connect_host(host)
    assert isinstance(transport, OpensshTransport)
    assert said(transport) == "it's $HOME\n"


@pytest.mark.parametrize("lines", [(), ("HostKeyAlias vm",)])
@pytest.mark.parametrize("name", ["my keys", "100%", 'a"b'])
def test_names_of_files_are_taken_as_they_are(
    name: str, lines: tuple[str, ...], sshd: ssh.SshServer, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    key, known = tmp_path / name / "id", tmp_path / name / "known"
    shutil.copy(sshd.client_key, key)
    sshd.client_key.unlink()
    known.write_text(f"vm {key_line(sshd)}\n{sshd.known_hosts_line()}")
    configured(sshd, tmp_path, *lines, known="")
    host = Host(address="myvm", identity=str(key), known_hosts=str(known))
    assert said(connect_host(host)) == "it's $HOME\n"
    with pytest.raises(UsageError) as caught:
        connect_host(Host(address="myvm", identity=f"{key}-gone"))
    assert caught.value.code == "identity-missing"


def test_a_key_that_is_named_by_tokens_is_offered(sshd: ssh.SshServer, tmp_path: Path) -> None:
    shutil.copy(sshd.client_key, tmp_path / "key-of-root")
    sshd.client_key.unlink()
    host = configured(sshd, tmp_path, f"IdentityFile {tmp_path}/key-of-%r")
    assert said(connect_host(host)) == "it's $HOME\n"
