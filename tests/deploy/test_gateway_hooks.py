"""The start hooks, run by bash against the files that the image really has."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infrastructure.render.gateway import jvm_options
from infrastructure.render.model import TEMPLATES
from tests.deploy.conftest import rendered

if TYPE_CHECKING:
    from collections.abc import Callable

    from infrastructure.config import Target

VMOPTIONS = """\
# Enter one VM parameter per line
-Xmx768m
-XX:+UseG1GC
-XX:MaxGCPauseMillis=200
-XX:ParallelGCThreads=20
-XX:ConcGCThreads=5
-XX:InitiatingHeapOccupancyPercent=70
"""
IBC_TEMPLATE = """\
# LoginDialogDisplayTimeout=... is described here
IbLoginId=${TWS_USERID}
LoginDialogDisplayTimeout=60

CommandServerPort=0
ControlFrom=
BindAddress=
IbPassword=${TWS_PASSWORD}
"""


class Container:
    """A folder laid out like the image's home, with the release mounted where it would be."""

    def __init__(self, folder: Path, target: Target) -> None:
        self.home = folder
        self.program = folder / "Jts" / "ibgateway" / "10.45.1j"
        self.program.mkdir(parents=True)
        self.vmoptions = self.program / "ibgateway.vmoptions"
        self.vmoptions.write_text(VMOPTIONS)
        (folder / "ibc").mkdir()
        self.template = folder / "ibc" / "config.ini.tmpl"
        self.template.write_text(IBC_TEMPLATE)
        (folder / "ibc" / "scripts").mkdir()
        self.launcher = folder / "ibc" / "scripts" / "ibcstart.sh"
        self.launcher.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\nexit 7\n')
        self.launcher.chmod(0o755)
        (folder / "settings").mkdir()
        (folder / "state").mkdir()
        self.settings = folder / "settings" / "tws"
        self.mount(target)

    def mount(self, target: Target) -> None:
        self.mode = target.stack.gateway.mode
        for file in rendered(target).files:
            if file.path.startswith("gateway/"):
                path = self.home / "gangway" / file.path.removeprefix("gateway/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.content)

    def start(self) -> str:
        """Runs the hooks as the image does: `bash FILE` for each, in order."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TRADING_MODE": self.mode,
            "TWS_PATH": str(self.home / "Jts"),
            "TWS_SETTINGS_PATH": str(self.settings),
            "IB_GATEWAY_VERSION": "10.45.1j",
            "IBC_INI_TMPL": str(self.template),
            "IBC_PATH": str(self.home / "ibc"),
        }
        output = ""
        for hook in sorted((self.home / "gangway" / "start").glob("*.sh")):
            done = subprocess.run(
                ["bash", str(hook)],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                cwd="/",
            )
            assert done.returncode == 0, done.stderr
            output += done.stdout
        return output


@pytest.fixture
def container(tmp_path: Path, make: Callable[..., Target]) -> Container:
    return Container(tmp_path / "home", make())


def test_options_replace_the_collector_heap_and_tuning(container: Container) -> None:
    container.start()
    lines = container.vmoptions.read_text().splitlines()
    assert lines == [
        "# Enter one VM parameter per line",
        "-Xmx256m",
        "-Xms256m",
        "-XX:+UseSerialGC",
        "-XX:MaxMetaspaceSize=128m",
        "-XX:+AlwaysPreTouch",
        "-XX:+ExitOnOutOfMemoryError",
    ]


@pytest.mark.parametrize(
    "content",
    [
        " ".join(VMOPTIONS.splitlines()[1:]),
        VMOPTIONS.replace("\n", "\r\n"),
        VMOPTIONS.rstrip("\n"),
        "-Xmx4g\n-Xms1g\n-XX:+UseSerialGC\n-XX:MaxMetaspaceSize=64m\n-XX:-ExitOnOutOfMemoryError\n",
    ],
    ids=["one line", "carriage returns", "no last newline", "edited before"],
)
def test_options_whatever_the_file_looked_like(container: Container, content: str) -> None:
    container.vmoptions.write_text(content)
    container.start()
    options = [
        line for line in container.vmoptions.read_text().splitlines() if not line.startswith("#")
    ]
    assert options[-6:] == [
        "-Xmx256m",
        "-Xms256m",
        "-XX:+UseSerialGC",
        "-XX:MaxMetaspaceSize=128m",
        "-XX:+AlwaysPreTouch",
        "-XX:+ExitOnOutOfMemoryError",
    ]
    assert len(options) == 6


def test_options_of_others_stay(container: Container) -> None:
    container.vmoptions.write_text("-Xmx768m\n-XX:+UseStringDeduplication\n-Dfoo=bar\n")
    container.start()
    lines = container.vmoptions.read_text().splitlines()
    assert lines[:2] == ["-XX:+UseStringDeduplication", "-Dfoo=bar"]


def test_hooks_run_twice_change_nothing(container: Container) -> None:
    container.start()
    files = [
        container.vmoptions,
        container.template,
        container.settings / "jts.ini",
        container.launcher,
    ]
    before = [(path.read_bytes(), path.stat().st_ino) for path in files]
    container.start()
    assert [(path.read_bytes(), path.stat().st_ino) for path in files] == before


def test_changed_options_replace_our_own(container: Container, make: Callable[..., Target]) -> None:
    container.start()
    target = make(
        profile="standard",
        gateway={"jvm": {"heap": 512, "collector": "g1", "options": ["-XX:G1HeapRegionSize=1m"]}},
    )
    container.mount(target)
    container.start()
    lines = container.vmoptions.read_text().splitlines()[1:]
    assert tuple(lines) == jvm_options(target.stack)


@pytest.mark.skipif(not Path("/usr/bin/java").exists(), reason="needs java: make engine")
def test_java_starts_with_the_options_as_the_launcher_joins_them(container: Container) -> None:
    container.start()
    options = [
        line for line in container.vmoptions.read_text().splitlines() if not line.startswith("#")
    ]
    done = subprocess.run(
        ["java", *options, "-version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_ibc_template(container: Container) -> None:
    container.start()
    assert container.template.read_text() == (
        "# LoginDialogDisplayTimeout=... is described here\n"
        "IbLoginId=${TWS_USERID}\n"
        "LoginDialogDisplayTimeout=180\n"
        "\n"
        "CommandServerPort=1${SOCAT_PORT}\n"
        "ControlFrom=127.0.0.1\n"
        "BindAddress=127.0.0.1\n"
        "IbPassword=${TWS_PASSWORD}\n"
    )


def test_ibc_settings_that_the_template_lacks_are_added(container: Container) -> None:
    container.template.write_text("FIX=no\n")
    container.start()
    assert "LoginDialogDisplayTimeout=180\n" in container.template.read_text()


def test_jts_ini_is_written_where_the_image_looks(container: Container) -> None:
    container.start()
    path = container.settings / "jts.ini"
    assert "TimeZone=America/New_York\n" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_jts_ini_of_both_sessions(container: Container, make: Callable[..., Target]) -> None:
    container.mount(make(profile="small", gateway={"mode": "both", "paper_username": "bob"}))
    container.start()
    for mode in ("live", "paper"):
        assert (container.home / "settings" / f"tws_{mode}" / "jts.ini").exists()
    assert not container.settings.exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[Logon]\nTimeZone=Asia/Tokyo\nLocale=en\n", "[Logon]\nTimeZone=Z\nLocale=en\n"),
        ("[Logon]\nTimeZone=\n", "[Logon]\nTimeZone=Z\n"),
        ("[Logon]\nLocale=en\n\n[Other]\nTimeZone=x\n", None),
        (
            "[Other]\nLocalServerPort=4000\n",
            "[Other]\nLocalServerPort=4000\n\n[Logon]\nTimeZone=Z\n",
        ),
        ("[Logon]\nTimeZone=a\nTimeZone=b\n", "[Logon]\nTimeZone=Z\n"),
        ("[Logon]\r\nTimeZone=a\r\nuser=1\r\n", "[Logon]\r\nTimeZone=Z\nuser=1\r\n"),
        ("[Logon]\nLocale=en", "[Logon]\nLocale=en\nTimeZone=Z\n"),
    ],
)
def test_stale_time_zone_is_mended(container: Container, before: str, after: str | None) -> None:
    container.settings.mkdir()
    path = container.settings / "jts.ini"
    path.write_bytes(before.encode())
    container.start()
    if after is None:
        after = "[Logon]\nLocale=en\n\nTimeZone=Z\n[Other]\nTimeZone=x\n"
    assert path.read_bytes().decode() == after.replace("=Z", "=America/New_York")


def test_a_full_login_that_a_person_asks_for_leaves_no_token(container: Container) -> None:
    (container.settings / "dabcdef").mkdir(parents=True)
    fresh = container.settings / "dabcdef/autorestart"
    for content, stays in (("", True), ("cold\n", False)):
        fresh.write_text("x")
        (container.home / "state" / "afresh").write_text(content)
        container.start()
        assert fresh.exists() is stays
        assert not (container.home / "state" / "afresh").exists()


def test_only_a_stale_restart_token_is_removed(container: Container) -> None:
    container.settings.mkdir()
    (container.settings / "dabcdef").mkdir()
    stale, fresh = container.settings / "dabcdef/autorestart", container.settings / "autorestart"
    stale.write_text("x")
    fresh.write_text("x")
    os.utime(stale, (0, 0))
    container.start()
    assert fresh.exists()
    assert not stale.exists()


@pytest.mark.parametrize(
    ("moment", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_codes_are_those_of_rfc_6238(moment: int, code: str) -> None:
    """Its appendix B, the last six of eight digits."""
    done = subprocess.run(
        ["bash", str(TEMPLATES / "gateway" / "second-factor.sh"), "code", str(moment // 30)],
        input="GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{code}\n"


def test_a_seed_that_is_not_of_whole_groups_gives_codes() -> None:
    import base64
    import hashlib
    import hmac
    import struct

    seed = "JBSWY3DPEHPK3PXPAB"  # 18 letters: 11 bytes
    key = base64.b32decode(seed + "=" * (-len(seed) % 8))
    digest = hmac.new(key, struct.pack(">Q", 1), hashlib.sha1).digest()
    at = digest[-1] & 15
    number = int.from_bytes(digest[at : at + 4], "big") & 0x7FFFFFFF
    done = subprocess.run(
        ["bash", str(TEMPLATES / "gateway" / "second-factor.sh"), "code", "1"],
        input=seed,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{number % 1_000_000:06d}\n"


@pytest.mark.parametrize("disk", ["takes all", "is full"])
def test_a_code_is_typed_and_counted_whatever_the_disk_takes(tmp_path: Path, disk: str) -> None:
    """Where it takes nothing the recorder goes on in memory, and so does this."""
    state, spare, programs = tmp_path / "state", tmp_path / "memory", tmp_path / "bin"
    for folder in (state, programs):
        folder.mkdir()
    facts, used = state / "login-paper", state / ".totp-paper"
    if disk == "is full":  # nothing can be written down: folders stand where the files would be
        facts.mkdir()
        used.with_name(".totp-paper.new").mkdir()
        facts, used = spare / "login-paper", spare / ".totp-paper"
    else:
        facts.touch()
    (programs / "socat").write_text("#!/bin/bash\nexit 1\n")  # there is no screen
    (programs / "socat").chmod(0o755)
    seed = tmp_path / "seed"
    seed.write_text("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    process = subprocess.Popen(
        ["bash", str(TEMPLATES / "gateway" / "second-factor.sh"), "watch"],
        env={
            "PATH": f"{programs}:{os.environ['PATH']}",
            "GANGWAY_STATE_PATH": str(state),
            "GANGWAY_SPARE_PATH": str(spare),
            "GANGWAY_TOTP_FILE": str(seed),
        },
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )

    def asked() -> bool:
        """The recorder's word; what is there before it is listened for counts for nothing."""
        text = facts.read_text() if facts.exists() else ""
        silent = time.time() - facts.stat().st_mtime > 3 if text else spare.exists()
        if silent:
            with facts.open("a") as log:
                log.write(f"{int(time.time()) - 10} code\n")
        return " typed\n" in text

    try:
        written(asked)
        assert abs(int(used.read_text()) - time.time() // 30) <= 1
        written(lambda: " untyped\n" in facts.read_text())
        assert facts.read_text().count(" typed\n") == 1
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def written(there: Callable[[], bool]) -> None:
    """Until it is; no code is typed in the last ten seconds of a half minute."""
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.05)
