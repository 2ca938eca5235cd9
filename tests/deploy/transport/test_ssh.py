"""SSH without an engine: whose key is believed, and what a program's pipes carry."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncssh
import pytest

from infrastructure.config import Target
from infrastructure.config.host import Host, likely_host
from infrastructure.errors import ConfigError, HostKeyError, HostUnreachable, UsageError
from infrastructure.transport import Transport, connect_host
from infrastructure.transport.base import relay, run
from infrastructure.transport.openssh import program
from tests.deploy.transport.server import Server, server


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with server(tmp_path) as running:
        yield running


def connect(machine: Server, known: Path, trusted: str | None = None) -> Transport:
    host = Host(
        address="127.0.0.1",
        user="deploy",
        port=machine.port,
        identity=str(machine.client_key),
        known_hosts=str(known),
    )
    return connect_host(host, trusted)


def test_a_known_key_is_let_through(machine: Server) -> None:
    with connect(machine, machine.known()) as transport:
        done = run(transport, ["sh", "-c", "cat; echo said >&2; exit 3"], b"sent")
    assert (done.code, done.output, done.errors) == (3, b"sent", b"said\n")


def test_arguments_arrive_as_they_are(machine: Server) -> None:
    words = ["printf", "%s|", "two words", "$HOME", "it's", "`id`"]
    with connect(machine, machine.known()) as transport:
        assert run(transport, words).output == b"two words|$HOME|it's|`id`|"


def test_an_unknown_key_is_refused_with_its_fingerprint(machine: Server, tmp_path: Path) -> None:
    with pytest.raises(HostKeyError) as caught:
        connect(machine, tmp_path / "none")
    assert caught.value.code == "host-key-unknown"
    assert caught.value.fingerprint == machine.fingerprint
    assert machine.fingerprint in caught.value.hint
    assert caught.value.exit_code == 5


def test_a_changed_key_is_refused(machine: Server) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    with pytest.raises(HostKeyError) as caught:
        connect(machine, machine.known(other))
    assert caught.value.code == "host-key-changed"
    assert caught.value.fingerprint == machine.fingerprint


def test_one_fingerprint_can_be_trusted(machine: Server, tmp_path: Path) -> None:
    with connect(machine, tmp_path / "none", machine.fingerprint) as transport:
        assert run(transport, ["true"]).code == 0
    wrong = asyncssh.generate_private_key("ssh-ed25519").get_fingerprint("sha256")
    with pytest.raises(HostKeyError):
        connect(machine, machine.known(), wrong)


def test_a_stranger_is_not_let_in(machine: Server, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    key = asyncssh.generate_private_key("ssh-ed25519")
    stranger.write_bytes(key.export_private_key("openssh"))
    machine.client_key = stranger
    with pytest.raises(HostUnreachable, match="does not let us in"):
        connect(machine, machine.known())


def test_a_locked_key_asks_for_the_agent(machine: Server, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    key = asyncssh.generate_private_key("ssh-ed25519")
    locked.write_bytes(key.export_private_key("openssh", "passphrase"))
    machine.client_key = locked
    with pytest.raises(HostUnreachable) as caught:
        connect(machine, machine.known())
    assert "passphrase" in caught.value.message


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_likely_host(tmp_path: Path) -> None:
    file = write(tmp_path / "stack.yaml", "targets:\n  prod:\n    host: me@vm:2222\n")
    host = likely_host(file, None)
    assert host is not None
    assert (host.user, host.address, host.port) == ("me", "vm", 2222)
    assert likely_host(file, "other") is None


def test_defaults_belong_to_the_likely_host(tmp_path: Path) -> None:
    text = "defaults: {host: {user: me}}\ntargets: {prod: {host: {address: vm}}}\n"
    host = likely_host(write(tmp_path / "stack.yaml", text), "prod")
    assert host is not None
    assert (host.user, host.address) == ("me", "vm")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "targets: {}",
        "targets: {prod: 1}",
        "targets: {prod: {host: local}}",
        "targets: {prod: {host: {address: vm, port: many}}}",
        "[1, 2",
    ],
)
def test_in_doubt_there_is_no_likely_host(tmp_path: Path, text: str) -> None:
    assert likely_host(write(tmp_path / "stack.yaml", text), None) is None


@pytest.mark.parametrize(
    ("text", "user", "address", "port"),
    [
        ("vm", None, "vm", None),
        ("me@vm:2222", "me", "vm", 2222),
        ("ssh://me@vm:22", "me", "vm", 22),
        ("SSH://vm/", None, "vm", None),
        ("me@corp@vm", "me@corp", "vm", None),
        ("[2001:db8::1]:22", None, "2001:db8::1", 22),
        ("me@2001:db8::1", "me", "2001:db8::1", None),
        ("::1", None, "::1", None),
    ],
)
def test_a_host_in_short(text: str, user: str | None, address: str, port: int | None) -> None:
    host = Host.model_validate(text)
    assert (host.user, host.address, host.port) == (user, address, port)


@pytest.mark.parametrize(
    "value",
    [
        "-oProxyCommand=id@vm",
        "me@-oProxyCommand=id",
        "ssh://",
        "http://vm",
        "me;id@vm",
        {"address": "vm", "user": "-l"},
        {"address": "vm", "user": "a b"},
        {"address": "vm", "jump": "-oProxyCommand=id"},
        {"address": "vm", "jump": "bastion,-J"},
        {"address": "vm:22"},
        {"address": "me@vm"},
    ],
)
def test_what_ssh_would_take_for_an_option_is_no_host(value: object) -> None:
    with pytest.raises(ValueError, match=r"user@host|name|address"):
        Host.model_validate(value)


@pytest.mark.parametrize(
    "text",
    [
        "ssh://me:s3cret@vm:22",
        "me:s3cret@vm",
        "me:s3cret/with@vm",
        "ssh://me:s3cret with@vm",
        "me:s3cret@home@vm",
        "https://me:s3cret@vm",
        {"address": "vm", "jump": "me:s3cret/with@bastion"},
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(
    text: str | dict[str, str], make: Callable[..., Target]
) -> None:
    with pytest.raises(ValueError, match="a password does not belong"):
        Host.model_validate(text)
    with pytest.raises(ConfigError) as caught:
        make(host=text)
    said = str(caught.value) + "".join(str(one.as_json()) for one in caught.value.problems())
    assert "s3cret" not in said
    assert "a password does not belong" in said


def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, host: Host) -> str:
    """What is said of a host that cannot be reached with this `~/.ssh/config`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir(mode=0o700, exist_ok=True)
    (tmp_path / ".ssh/config").write_text(config)
    with pytest.raises(HostUnreachable) as refused, connect_host(host):
        pass
    assert refused.value.hint
    return refused.value.message


NEXT = "  HostName 127.0.0.1\n  Port 1\n  ConnectTimeout 2\n"


@pytest.mark.parametrize(
    ("config", "circle"),
    [
        (f"Host *\n  ProxyJump bastion\nHost bastion\n{NEXT}", "bastion -> bastion"),
        (f"Host *\n  ProxyJump myvm\n{NEXT}", "myvm -> myvm"),
        (
            f"Host myvm\n{NEXT}  ProxyJump one\nHost one\n{NEXT}  ProxyJump two\n"
            f"Host two\n{NEXT}  ProxyJump one\n",
            "one -> two -> one",
        ),
    ],
)
@pytest.mark.skipif(program() is None, reason="needs ssh (apt-get install openssh-client)")
def test_jump_hosts_in_a_circle_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, circle: str
) -> None:
    said = refusal(tmp_path, monkeypatch, config, Host(address="myvm"))
    assert said == f"the jump hosts of ~/.ssh/config lead in a circle: {circle}"


@pytest.mark.skipif(program() is None, reason="needs ssh (apt-get install openssh-client)")
def test_names_of_the_configuration_that_we_would_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A jump host whose user has a strange name is `ssh`'s to reach; nobody's home is no file."""
    begin = f"Host myvm\n{NEXT}"
    for line in ("ProxyJump me!x@127.0.0.1:1", "IdentityFile ~nobody-of-this-name/key"):
        said = refusal(tmp_path, monkeypatch, f"{begin}  {line}\n", Host(address="myvm"))
        assert "myvm cannot be reached" in said or "127.0.0.1:1 cannot be reached" in said


@pytest.mark.parametrize("name", ["x" * 64, "a..b", "." * 2 + "x", "a." + "b" * 70 + ".c"])
def test_a_name_that_no_host_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    host = Host.model_construct(
        **{**Host(address="placeholder").model_dump(), "address": name, "port": 22}
    )
    assert refusal(tmp_path, monkeypatch, "", host) == f"there is no host named {name}"


def test_known_hosts_that_are_a_pipe_or_a_folder(machine: Server, tmp_path: Path) -> None:
    """A folder knows nobody; a pipe has no end, for `ssh` neither."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="are a pipe"), connect(machine, tmp_path / "pipe"):
        pass
    with pytest.raises(HostKeyError, match="is not known"), connect(machine, tmp_path):
        pass


def test_a_key_in_nobodys_home_is_not_there() -> None:
    host = Host(address="127.0.0.1", port=1, identity="~nobody-of-this-name/key")
    with pytest.raises(UsageError, match="there is no identity file"), connect_host(host):
        pass


@pytest.mark.parametrize("mark", ["", "yes", "MD5:ab", "SHA256:short"])
def test_a_fingerprint_that_is_none_is_not_passed_over(mark: str) -> None:
    with (
        pytest.raises(UsageError, match="wants a fingerprint"),
        connect_host(Host(address="127.0.0.1", port=1), mark),
    ):
        pass


def test_a_port_here_that_is_taken_is_named_and_can_be_used_again_soon() -> None:
    def far() -> socket.socket:
        raise OSError("nobody is there")

    with relay(far, 0) as port:
        with pytest.raises(UsageError) as refused, relay(far, port):
            pass
        assert refused.value.code == "local-port-taken"
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            assert client.recv(1) == b""  # the server closes first: its side waits a minute
    with relay(far, port) as again:
        assert again == port
