"""What the host knows of itself: read from files as the kernel and the distributions write them."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infrastructure.apply.host import facts
from infrastructure.apply.host.store import Store
from infrastructure.runtime.base import Container
from tests.deploy.apply.fake import FakeRuntime

JAVA = "/usr/bin/java -Xmx512m -XX:+UseSerialGC ibcalpha.ibc.IbcGateway"


class Host:
    """A folder that stands for `/`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, *parts: Any) -> Path:
        path = Path(*parts)
        return self.root / path.relative_to("/") if path.is_absolute() else path

    def write(self, name: str, text: str) -> None:
        path = self(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """The probe reads below a folder of the test's instead of this machine's files."""
    found = Host(tmp_path / "root")
    monkeypatch.setattr(facts, "Path", found)
    return found


def disk(free: int, total: int = 1 << 40) -> Any:
    return lambda _: SimpleNamespace(total=total, used=total - free, free=free)


# --- the machine ----------------------------------------------------------------------------------
def test_the_machine(root: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.write(
        "/proc/meminfo",
        "MemTotal:        1009312 kB\nMemAvailable:  400000 kB\nSwapTotal: 2000 kB\n"
        "SwapFree: 1500 kB\nHugePages: none\nodd\n",
    )
    root.write("/proc/vmstat", "nr_free_pages 12\noom_kill 3\n")
    root.write("/etc/os-release", 'NAME=x\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    root.write("/run/systemd/timesync/synchronized", "")
    asked: list[Path] = []

    def usage(path: Path) -> Any:
        asked.append(path)
        return SimpleNamespace(total=4096 * 1024, free=1024 * 1024)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.6, 0.7))
    monkeypatch.setattr(time, "time", lambda: 1e9)
    found = facts.host(tmp_path / "not" / "made" / "yet")
    assert asked == [tmp_path], "the file system on which the folder will lie"
    assert found == {
        "time": 1e9,
        "uid": os.getuid(),
        "system": "Debian GNU/Linux 12 (bookworm)",
        "machine": os.uname().machine,
        "memory": {"total": 1009312, "available": 400000},
        "swap": {"total": 2000, "free": 1500},
        "disk": {"total": 4096, "free": 1024},
        "load": 0.5,
        "oomKills": 3,
        "synchronized": True,
        "exposed": [],
    }


def test_a_machine_that_says_nothing(root: Host, tmp_path: Path) -> None:
    found = facts.host(tmp_path)
    assert (found["memory"], found["swap"]) == (
        {"total": 0, "available": 0},
        {"total": 0, "free": 0},
    )
    assert (found["system"], found["oomKills"], found["synchronized"]) == ("", None, False)
    root.write("/etc/os-release", "NAME=x\n")
    assert facts.system() == ""


@pytest.mark.parametrize("name", ["/run/chrony/chronyd.pid", "/run/ntpd.pid"])
def test_another_clock_daemon_is_one(root: Host, tmp_path: Path, name: str) -> None:
    root.write(name, "7")
    assert facts.chrony()
    assert facts.host(tmp_path)["synchronized"] is True


# --- ports ----------------------------------------------------------------------------------------
def row(address: str, port: int, state: str = "0A") -> str:
    return f"   0: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:0 0 0 1 1"


HEAD = "  sl  local_address rem_address   st tx_queue\n"


def test_what_is_open_to_anybody_is_told_and_loopback_is_not(root: Host) -> None:
    rows = [
        row("0100007F", 4001),  # 127.0.0.1
        row("3500007F", 4002),  # 127.0.0.53
        row("00000000", 8080),
        row("7F00000A", 4003),  # 10.0.0.127
        row("00000000", 22),
        row("00000000", 5900, "01"),  # a connection, no listener
    ]
    root.write("/proc/net/tcp", HEAD + "\n".join(rows))
    rows = [
        row("00000000000000000000000001000000", 14003),
        row("0000000000000000FFFF00000100007F", 14004),
        row("00000000000000000000000000000000", 4004),
    ]
    root.write("/proc/net/tcp6", HEAD + "\n".join(rows))
    assert facts.exposed() == [4003, 4004, 8080]


def test_the_first_line_of_the_kernels_table_is_its_head(root: Host) -> None:
    root.write("/proc/net/tcp", row("00000000", 8080) + "\n" + row("00000000", 4001))
    assert facts.exposed() == [4001]


# --- what fills the disk --------------------------------------------------------------------------
def test_only_while_room_is_scarce_is_it_looked_for_what_fills_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("data/bridge/deep", "data/gateway", "releases/r1"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "data/bridge/deep/journal").write_bytes(b"x" * 300_000)
    (tmp_path / "data/gateway/link").symlink_to("/usr")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(facts, "FILLING", (str(tmp_path / "elsewhere"),))
    monkeypatch.setattr(shutil, "disk_usage", disk((2 << 30) + 1))
    assert facts.fills(tmp_path) == {}
    monkeypatch.setattr(shutil, "disk_usage", disk(2 << 30))
    found = facts.fills(tmp_path)
    expected = ("data/bridge", "data/gateway", "releases", "elsewhere")
    assert found.keys() == {str(tmp_path / name) for name in expected}
    file = (tmp_path / "data/bridge/deep/journal").stat().st_blocks // 2
    folder = (tmp_path / "data/bridge/deep").stat().st_blocks // 2
    assert found[str(tmp_path / "data/bridge")] == file + folder
    assert file >= 290, "KB"


def test_a_folder_of_many_names_is_looked_at_only_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(6):
        (tmp_path / f"one-{at}").mkdir()
        (tmp_path / f"one-{at}" / "file").write_bytes(b"x" * 20_000)
    whole = facts.size(str(tmp_path))
    monkeypatch.setattr(facts, "LOOKED_AT", 7)
    each = (tmp_path / "one-0" / "file").stat().st_blocks // 2
    assert facts.size(str(tmp_path)) == whole - 5 * each, "six names, and then one folder more"
    assert facts.size(str(tmp_path / "missing")) == 0


def test_the_size_of_another_file_system_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted" / "file").write_bytes(b"x" * 20_000)
    folder = (tmp_path / "mounted").stat().st_blocks // 2
    real = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: SimpleNamespace(st_dev=real(path).st_dev + 1))
    assert facts.size(str(tmp_path)) == folder


# --- the gateway ----------------------------------------------------------------------------------
class Probed(FakeRuntime):
    """A gateway whose processes and libraries are known."""

    def __init__(self, *existing: Container, libraries: set[str] | None = None) -> None:
        super().__init__(*existing)
        self.found = libraries or set()
        self.processes: list[dict[str, Any]] = []
        self.probed: list[float] = []

    def libraries(self, container: Container) -> set[str]:
        return self.found

    def probe(self, container: Container, seconds: float) -> tuple[bool, str]:
        self.probed.append(seconds)
        return False, "no answer yet"

    def facts(self) -> dict[str, Any]:
        services = {"gateway": {"processes": self.processes}}
        return {"engine": "27.1", "compose": "2.29", "services": services}


def test_a_gateway_that_does_not_run_is_not_asked(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for existing in ((), (Container("gateway", "g", state="exited"),)):
        runtime = Probed(*existing)
        found = facts.collect(store, runtime, {})
        assert found.gateway["said"] == "not running"
        assert (found.gateway["api"], found.gateway["flags"]) == (False, None)
        assert (found.gateway["resident"], found.gateway["missing"]) == (0, [])
        assert found.gateway["browser"] is None
        assert runtime.probed == []
        assert found.certificate is None


def test_a_gateway_that_runs(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.base.mkdir(exist_ok=True)
    store.begin(release="r2")
    (tmp_path / "releases/r1").mkdir(parents=True)
    runtime = Probed(
        Container("gateway", "g", state="running"),
        libraries={"libnss3.so", "libgbm.so.1", "libc.so.6"},
    )
    runtime.processes = [
        {"rss": 900, "line": "/bin/sh run.sh"},
        {"rss": 300_000, "line": JAVA},
        {"rss": 7, "line": "Xvfb :1"},
    ]
    checks: Any = {"gateway": {"jvm": ["-Xmx512m", "-Xss1m"]}}
    store.leave("me@new")
    found = facts.collect(store, runtime, checks)
    assert found.moved == store.moved() != ""
    assert found.gateway == {
        "browser": ["libatk-bridge-2.0.so.0", "libasound.so.2"],
        "flags": ["-Xmx512m", "-XX:+UseSerialGC"],
        "missing": ["-Xss1m (is not set)"],
        "resident": 300_000,
        "api": False,
        "said": "no answer yet",
    }
    assert runtime.probed == [10]
    assert (found.engine["engine"], found.pending, found.releases) == (
        "27.1",
        {"release": "r2"},
        ["r1"],
    )
    runtime.processes = [{"rss": 900, "line": "/bin/sh run.sh"}]
    found = facts.collect(store, runtime, checks)
    assert (found.gateway["flags"], found.gateway["missing"]) == (None, [])
    assert found.gateway["resident"] == 0


def test_nothing_is_said_of_libraries_that_cannot_be_seen() -> None:
    assert facts.lacking(set()) is None
    assert facts.lacking(set(facts.BROWSER)) == []


# --- Caddy's certificate --------------------------------------------------------------------------
def test_the_certificate_that_caddy_shows(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj",
         "/CN=x", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    shown: list[str | None] = []
    context.sni_callback = lambda _, name, __: shown.append(name)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client, context.wrap_socket(client, server_side=True):
                pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        check: Any = {"address": "127.0.0.1", "port": port, "name": "bridge.example.com"}
        runtime = Probed(Container("caddy", "c", state="running"))
        found = facts.collect(Store(str(tmp_path)), runtime, {"caddy": check}).certificate
        thread.join(5)
    assert shown == ["bridge.example.com"]
    assert base64.b64decode(found or "") == ssl.PEM_cert_to_DER_cert(certificate.read_text())


def test_without_tls_there_is_no_certificate() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(100)
                client.sendall(b"HTTP/1.0 400 x\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        port = listener.getsockname()[1]
        assert facts.certificate({"address": "127.0.0.1", "port": port, "name": "x"}) is None


# --- files ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("mode", "loose"),
    [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o610, True), (0o601, True)],
)
def test_secrets_that_others_may_open_are_named(tmp_path: Path, mode: int, loose: bool) -> None:
    path = tmp_path / "releases/r1/secrets/tws_password"
    path.parent.mkdir(parents=True)
    path.write_text("x")
    path.chmod(mode)
    expected = ["releases/r1/secrets/tws_password"] if loose else []
    assert facts.loose_secrets(tmp_path) == expected


def test_the_gateways_settings(tmp_path: Path) -> None:
    assert facts.settings(tmp_path) == {"owner": None, "files": {}}
    folder = tmp_path / "data/gateway"
    for name, text in (("paper", "[Logon]\n"), ("live", "x" * 20_001)):
        (folder / name).mkdir(parents=True)
        (folder / name / "jts.ini").write_text(text)
    (folder / "launcher.log").write_text("no settings")
    found = facts.settings(tmp_path)
    assert found == {"owner": os.getuid(), "files": {"paper": "[Logon]\n", "live": "x" * 20_000}}
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "jts.ini").write_text("of the host's")
    (folder / "linked").symlink_to(secret)
    for name in ("file", "pipe"):
        (folder / name).mkdir()
    (folder / "file/jts.ini").symlink_to(secret / "jts.ini")
    os.mkfifo(folder / "pipe/jts.ini")
    assert facts.settings(tmp_path) == found, "the container's links lead nowhere, nor do its pipes"
