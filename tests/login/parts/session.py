"""One gateway under a real login controller, in a folder laid out like the image's home."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.login.parts.controllers import ENVIRONMENT, IMAGE, java_home, packages

VERSION = "10.45.1j"
VARIABLES = {
    "TRADING_MODE": "paper",
    "TWS_USERID": "demo",
    "TWS_PASSWORD": "correct",
    "READ_ONLY_API": "no",
    "TWS_ACCEPT_INCOMING": "accept",
    "EXISTING_SESSION_DETECTED_ACTION": "primary",
    "TWOFA_TIMEOUT_ACTION": "restart",
    "TWOFA_EXIT_INTERVAL": "60",
    "TWOFA_DEVICE": "IB Key",
    "RELOGIN_AFTER_TWOFA_TIMEOUT": "yes",
    "BYPASS_WARNING": "yes",
    "TIME_ZONE": "America/New_York",
    "TZ": "America/New_York",
}
# The same settings in ibcontroller's own variables.
TRANSLATED = {
    "IBC_TRADING_MODE": "TRADING_MODE",
    "IBC_USERID": "TWS_USERID",
    "IBC_PASSWORD": "TWS_PASSWORD",
    "IBC_EXISTING_SESSION_ACTION": "EXISTING_SESSION_DETECTED_ACTION",
    "IBC_MFA_TIMEOUT_ACTION": "TWOFA_TIMEOUT_ACTION",
    "IBC_MFA_EXIT_INTERVAL": "TWOFA_EXIT_INTERVAL",
    "IBC_AUTO_RESTART_TIME": "AUTO_RESTART_TIME",
    "IBC_AUTO_LOGOFF_TIME": "AUTO_LOGOFF_TIME",
    "IBC_COLD_RESTART_TIME": "TWS_COLD_RESTART",
}


@dataclass
class Session:
    """A gateway's home in a short folder of its own (ibcontroller's sockets want short paths)."""

    standin: Path
    display: str
    variables: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    home: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="gw-", dir="/tmp")))
    clock: str = ""
    process: subprocess.Popen[bytes] | None = None
    kit: Path = Path()

    def __post_init__(self) -> None:
        """Lays the home out with the image's own script, and renders what the image renders."""
        self.variables = VARIABLES | self.variables
        install = [str(IMAGE / "install"), str(packages()), str(self.standin), str(java_home())]
        subprocess.run([*install, str(self.home)], check=True)
        (self.program / "ibgateway.vmoptions").write_text("-Xmx256m\n-XX:+UseSerialGC\n")
        self.folder.mkdir(parents=True)
        self.tws.mkdir()
        (self.home / "state").mkdir()
        shutil.copy(IMAGE / "files" / "Jts" / "jts.ini.tmpl", self.home / "Jts")

    @property
    def program(self) -> Path:
        return self.home / "Jts" / "ibgateway" / VERSION

    @property
    def tws(self) -> Path:
        """The settings folder: launcher.log, the saved session."""
        return self.home / "tws"

    @property
    def folder(self) -> Path:
        """The scenario's folder."""
        return self.home / "play" / self.variables["TRADING_MODE"]

    @property
    def output(self) -> Path:
        return self.home / "output.log"

    def environment(self) -> dict[str, str]:
        own = {
            "PATH": os.environ["PATH"],
            "GANGWAY_SPARE_PATH": str(self.home / "memory"),
            "HOME": str(self.home),
            "DISPLAY": self.display,
            "TWS_PATH": str(self.home / "Jts"),
            "TWS_SETTINGS_PATH": str(self.tws),
            "IBC_PATH": str(self.home / "ibc"),
            "IBC_INI": str(self.home / "ibc" / "config.ini"),
            "IBC_INI_TMPL": str(self.home / "ibc" / "config.ini.tmpl"),
            "IB_GATEWAY_VERSION": VERSION,
            "GANGWAY_STANDIN": str(self.home / "play"),
            "GANGWAY_STANDIN_PYTHON": "none",
        }
        if not self.clock:
            own["GANGWAY_NEW_YORK"] = broker_clock(12)
        return own | self.variables

    # --- the scenario ---------------------------------------------------------------------------
    def script(self, *steps: str) -> None:
        """The steps of the logins to come (see the stand-in's Scenario)."""
        (self.folder / "script").write_text("\n".join(steps) + "\n")

    def do(self, command: str) -> None:
        """A command for the running gateway; returns when it was taken."""
        new = self.folder / "do.new"
        new.write_text(command)
        new.rename(self.folder / "do")
        self.until(lambda: not (self.folder / "do").exists(), "the command was not taken")

    def approve(self) -> None:
        (self.folder / "approved").touch()

    def record(self, word: str = "") -> list[str]:
        """What IBKR's side saw (`word` only), without the times."""
        file = self.folder / "record"
        lines = file.read_text().splitlines() if file.exists() else []
        return [
            line.split(" ", 1)[1] for line in lines if not word or line.split(" ", 2)[1] == word
        ]

    # --- running --------------------------------------------------------------------------------
    def hooks(self, folder: Path) -> None:
        """Runs the kit's start hooks, as the image does before it renders anything."""
        self.kit = folder
        for hook in sorted((folder / "start").glob("*.sh")):
            subprocess.run(["bash", str(hook)], env=self.environment(), check=True, cwd="/")

    def _start(self, command: list[str], environment: dict[str, str]) -> None:
        if self.clock:  # only what the clock on the wall says: timers run on. A time is that of
            # each process at its start, `+SECONDS` of all of them alike.
            environment = environment | {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
            shift = self.clock if self.clock.startswith(("+", "-")) else f"@{self.clock}"
            command = ["faketime", "-f", shift, *command]
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env=environment,
                cwd=self.home,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def start_ibc(self) -> None:
        """As the image's run.sh: config.ini from its template, then IBC's start script."""
        template = self.home / "ibc" / "config.ini.tmpl"
        rendered = subprocess.run(
            ["envsubst"],
            input=template.read_text(),
            env=self.environment(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        known = {line.split("=", 1)[0] for line in rendered}
        assert set(self.settings) <= known
        lines = [
            f"{key}={self.settings[key]}" if key in self.settings else line
            for key, line in ((line.split("=", 1)[0], line) for line in rendered)
        ]
        (self.home / "ibc" / "config.ini").write_text("\n".join(lines) + "\n")
        options = [
            f"--tws-path={self.home / 'Jts'}",
            f"--ibc-path={self.home / 'ibc'}",
            f"--ibc-ini={self.home / 'ibc' / 'config.ini'}",
            f"--on2fatimeout={self.variables['TWOFA_TIMEOUT_ACTION']}",
            f"--tws-settings-path={self.tws}",
        ]
        script = str(self.home / "ibc" / "scripts" / "ibcstart.sh")
        self._start([script, VERSION, "-g", *options], self.environment())

    def start_ibcontroller(self, **more: str) -> None:
        """ibcontroller with the same settings in its own variables."""
        environment = self.environment()
        for own, ours in TRANSLATED.items():
            if ours in environment:
                environment[own] = environment[ours]
        yes = environment["RELOGIN_AFTER_TWOFA_TIMEOUT"] == "yes"
        environment |= {
            "IBC_TWS_PATH": environment["TWS_PATH"],
            "IBC_TWS_SETTINGS_PATH": environment["TWS_SETTINGS_PATH"],
            "IBC_TWS_VERSION": VERSION,
            "IBC_READ_ONLY_API": "false",
            "IBC_ACCEPT_INCOMING_CONNECTIONS": "accept",
            "IBC_RELOGIN_AFTER_MFA_TIMEOUT": str(yes).lower(),
            "IBC_APP_DIR": str(self.home / "app"),
        }
        self._start([str(ENVIRONMENT / "bin" / "ibcontroller"), "run"], environment | more)

    def command(self, word: str, port: int) -> str:
        """One word to IBC's command server; its answer's first line."""
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(f"{word}\n".encode())
            return client.makefile().readline().strip()

    # --- what is seen ---------------------------------------------------------------------------
    @property
    def log(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    @property
    def launcher(self) -> str:
        file = self.tws / "launcher.log"
        return file.read_text() if file.exists() else ""

    def trail(self) -> str:
        """What a failure is looked into with: the log's end, the recorder's facts, IBKR's side."""
        facts = self.home / "state" / f"login-{self.variables['TRADING_MODE']}"
        noted = facts.read_text() if facts.exists() else ""
        own = [line for line in self.log.splitlines() if line.startswith("gangway: ")]
        return f"{self.log[-4000:]}\n{noted[-4000:]}\n{own}\n{self.record()}"

    def until(self, true: Callable[[], bool], why: str, seconds: float = 40) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"{why}\n{self.trail()}"
            time.sleep(0.05)

    def wait_for(self, words: str, times: int = 1, seconds: float = 40) -> str:
        """The log, once it holds the words so many times."""
        self.until(lambda: self.log.count(words) >= times, f"no {words!r}", seconds)
        return self.log

    def ended(self, seconds: float = 40) -> int:
        """The exit code, once the controller has ended by itself."""
        assert self.process
        return self.process.wait(seconds)

    def stop(self) -> None:
        """Ends what this session started, and nothing else."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        for number in self._pids():
            _kill(number)
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        shutil.rmtree(self.home, ignore_errors=True)

    def _pids(self) -> Iterable[int]:
        return [int(line.split()[2]) for line in self.record("launch")]


def broker_clock(hour: int) -> str:
    """A zone where this hour begins now, for GANGWAY_NEW_YORK: no test hangs on the hour."""
    now = time.gmtime()
    behind = (now.tm_hour - hour) * 60 + now.tm_min
    return f"HERE{'-' if behind < 0 else '+'}{abs(behind) // 60}:{abs(behind) % 60:02}"


def _kill(number: int) -> None:
    """Only if it is still a Java machine: the number may be another's by now."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if Path(f"/proc/{number}/comm").read_text().strip() == "java":
            os.kill(number, signal.SIGKILL)
