"""The login inside the container: what bash decides there, and that it decides as Python does."""

from __future__ import annotations

import http.server
import json
import os
import random
import signal
import socketserver
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bridge.login.lines import ROWS, events
from bridge.login.model import Login, replay
from bridge.login.spacing import Launches
from infrastructure.diagnose.timeline import explain
from infrastructure.program import PROJECT
from tests.deploy.test_gateway_hooks import Container

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infrastructure.config import Target

LOGS = PROJECT / "tests" / "deploy" / "login_logs"
STAMP = "2026-01-02 10:11:12:013 IBC: "

SCRIPT = """\
#!/bin/bash
# The real script's loop, with a Java that says what its settings tell it to.
tws_settings_path=$TWS_SETTINGS_PATH
find_auto_restart() {
    if [ -e "$tws_settings_path/x/autorestart" ]; then
        echo "autorestart file found at $tws_settings_path/x/autorestart: authentication"
        restart_needed=yes
    else
        echo "autorestart file not found: full authentication will be required"
        restart_needed=
    fi
}
[ -z "${FAILS:-}" ] || { echo "Error: not valid" >&2; exit 3; }
find_auto_restart
while :
do
	echo "Starting Gateway with this command:"
	trap 'kill -TERM $PID' TERM INT
	"$HOME/java" &
	PID=$!
	wait $PID
	trap - TERM INT
	wait $PID
	exit_code=$(($? % 256))
	echo "IBC returned exit status $exit_code"
	if [ -e "$tws_settings_path/COLDRESTART" ]; then
		rm "$tws_settings_path/COLDRESTART"
	else
		find_auto_restart
		[ -n "$restart_needed" ] || break
	fi
	echo IBC will restart shortly
done
echo "Gateway finished"
exit $exit_code
"""


JAVA = """\
say() { echo "2026-01-02 10:11:12:013 IBC: $*"; }
exec 9<> <(:)
rest() { read -r -t 60 -u 9; }
echo run >>"$HOME/runs"
"""


class Gateway(Container):
    """The image's home with the hooks run, a Java of our own, and the start script's loop."""

    def __init__(self, folder: Path, target: Target) -> None:
        super().__init__(folder, target)
        self.launcher.write_text(SCRIPT)
        self.launcher.chmod(0o755)
        self.running: list[subprocess.Popen[str]] = []
        self.mode = "paper"

    @property
    def facts(self) -> Path:
        return self.home / "state" / f"login-{self.mode}"

    @property
    def held(self) -> Path:
        return self.home / "state" / f"held-{self.mode}"

    @property
    def token(self) -> Path:
        return self.settings / "x" / "autorestart"

    def java(self, *commands: str) -> None:
        """What the Java machine does: `say TEXT` is a line of IBC's."""
        path = self.home / "java.sh"
        path.write_text(JAVA + "\n".join(commands) + "\n")
        program = self.home / "bin" / "java"  # a process whose name is java, as the real one's is
        if not program.exists():
            program.parent.mkdir()
            program.symlink_to("/bin/bash")
            starter = self.home / "java"
            starter.write_text('#!/bin/bash\nexec "$HOME/bin/java" "$HOME/java.sh"\n')
            starter.chmod(0o755)

    @property
    def runs(self) -> int:
        path = self.home / "runs"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TRADING_MODE": self.mode,
            "TWS_SETTINGS_PATH": str(self.settings),
            **more,
        }

    def launch(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["bash", str(self.launcher), *arguments],
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def state(self) -> str:
        return replay(self.facts.read_text(), self.mode).state if self.facts.exists() else ""

    def code(self) -> str | None:
        return replay(self.facts.read_text(), self.mode).code if self.facts.exists() else ""

    def close(self) -> None:
        for process in self.running:
            for stop in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(process.pid, stop)
                except ProcessLookupError:
                    break
                time.sleep(0.05)
            process.communicate(timeout=60)


@pytest.fixture
def gateway(tmp_path: Path, make: Callable[..., Target]) -> Iterator[Gateway]:
    made = Gateway(tmp_path / "home", make())
    made.start()
    (made.settings / "x").mkdir()
    yield made
    made.close()


def until(condition: Callable[[], object], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def shell(gateway: Container, *arguments: str, text: str) -> list[str]:
    done = subprocess.run(
        ["bash", str(gateway.home / "gangway" / "login.sh"), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(gateway.home)},
        input=text,
        capture_output=True,
        text=True,
        check=True,
        timeout=110,
    )
    return done.stdout.splitlines()


# --- one table -----------------------------------------------------------------------------------


def corpus() -> list[str]:
    """Real-looking lines of every kind, and each pattern's own text, whole and broken."""
    lines = [line for file in sorted(LOGS.iterdir()) for line in file.read_text().splitlines()]
    for row in ROWS:
        text = row.pattern.replace("\\", "").replace("([0-9]+)", "12")
        lines += [STAMP + text, text, text[3:], f"2026-11-28 10:00:00.123 INFO  [x] - {text}"]
    lines += [
        f"{STAMP}detected dialog entitled: {title}; event={event}"
        for title in (
            "Login failed",
            "Öffnen & 12 Sätze",
            "",
            "  x  ",
            "a;b",
            "U123 'y' - z_w",
            "1234567",
            "host.example.com f3a9c0ffee Order. me@x",
            "* $(id) ~ * " + "y" * 21,
            "words " * 20,
        )
        for event in ("Opened", "Closed", "Activated", "Closing", "State changed")
    ]
    lines += [f"{STAMP}Login attempt: {'7' * 40}", f"{STAMP}IBC will exit in {'9' * 12}"]
    return [*lines, "", "\t", "IBC", "IBC: \\ % $(id) `id` *", "x" * 5000 + "IBC: Login failed"]


def test_bash_and_python_read_the_same_events(gateway: Gateway) -> None:
    lines = corpus()
    expected = [
        f"{event} {argument}".rstrip() for line in lines for event, argument in events(line)
    ]
    assert len(expected) > 150
    assert shell(gateway, "events", text="\n".join(lines) + "\n") == expected


HISTORY = [
    *("launch", "launch password", "launch password", "launch password", "launch token"),
    *("login", "login", "begin", "failed", "exit 1", "exit 1", "exit 0", "start", "attempt 1"),
]


def test_bash_and_python_space_attempts_alike(gateway: Gateway) -> None:
    """A hundred random histories, each judged by both at a random moment."""
    chance = random.Random(7)
    for _ in range(100):
        now = chance.randrange(1_767_225_600, 1_798_761_600)
        at, history = now, []
        for _ in range(chance.randrange(25)):
            event = chance.choice(HISTORY)
            history.append(f"{at} {event}\n")
            at += chance.choice((0, 1, 30, 119, 120, 600, 1500, 4000))
        # A clock may have been set back since.
        now = at + chance.choice((0, 1, 60, 3600, -3700, -9000))
        token = chance.random() < 0.3
        wanted, why = Launches.read("".join(history), now).next(now, token=token)
        answer = shell(gateway, "next", str(now), "yes" if token else "no", text="".join(history))
        assert answer == [f"{wanted} {why}"], "".join(history)


def test_a_clock_that_was_set_back_does_not_hold_up_a_launch(gateway: Gateway) -> None:
    ahead = int(time.time()) + 4 * 365 * 86_400
    gateway.facts.write_text(f"{ahead} launch password\n{ahead + 1} failed\n" * 9)
    gateway.java("say Login attempt: 1", "rest")
    gateway.launch()
    until(lambda: gateway.runs == 1)
    assert "pause" not in gateway.facts.read_text()


# --- the hook changes nothing about the end -------------------------------------------------------


def test_the_log_passes_whole_and_the_exit_code_too(gateway: Gateway) -> None:
    image = gateway.launcher.with_name("ibcstart.image.sh")
    image.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\nexit 7\n')
    lines = [f"line {number} with \\backslash and  spaces" for number in range(2000)]
    output, _ = gateway.launch(*lines).communicate(timeout=60)
    assert output.splitlines() == lines
    assert gateway.running[0].returncode == 7


def test_the_log_goes_on_without_the_recorder(gateway: Gateway) -> None:
    (gateway.home / "gangway" / "login-lines").unlink()
    image = gateway.launcher.with_name("ibcstart.image.sh")
    image.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    lines = [f"line {number}" for number in range(20_000)]
    output, _ = gateway.launch(*lines).communicate(timeout=60)
    assert output.splitlines() == lines


def test_a_recorder_that_was_killed_begins_anew(gateway: Gateway) -> None:
    """The machine may have no memory left for it; without one a refusal would be tried again."""
    gateway.java("say Login attempt: 1", GO, REFUSED, "rest")
    gateway.launch()
    until(lambda: gateway.state() == "logging-in")
    kill_recorders(gateway)
    (gateway.home / "go").touch()
    until(gateway.held.exists)
    assert gateway.runs == 1


def test_a_new_recorder_knows_that_a_token_was_tried(gateway: Gateway) -> None:
    """Of a session that is over a password is not to blame: a person would be sent for nothing."""
    gateway.token.touch()
    gateway.java(
        '[ -e "$TWS_SETTINGS_PATH/x/autorestart" ] || rest',
        "say Re-starting session",
        GO,
        REFUSED,
        "rest",
    )
    gateway.launch()
    until(lambda: gateway.facts.exists() and "resumes" in gateway.facts.read_text())
    kill_recorders(gateway)
    (gateway.home / "go").touch()
    until(lambda: gateway.held.exists() or not gateway.token.exists())
    assert not gateway.held.exists()


@pytest.mark.parametrize(
    ("facts", "does"),
    [
        ("boot", "hold"),
        ("boot, token", "cold start"),
        ("boot, resumes", "cold start"),
        ("boot, token, token-refused, refused", "nothing"),  # the same in other words
        ("boot, token, refused, exit 137, launch password, no-token, start", "nothing"),
        ("boot, token, refused, exit 137, launch password, no-token, attempt 1", "hold"),
        ("boot, token, refused, no-token, attempt 1, resumes", "cold start"),
        ("boot, token, boot, start, attempt 1", "hold"),
    ],
)
def test_a_new_recorder_goes_on_where_the_last_one_was(
    gateway: Gateway, facts: str, does: str
) -> None:
    written = "".join(f"{1_700_000_000 + at} {each}\n" for at, each in enumerate(facts.split(", ")))
    gateway.facts.write_text(written)
    said = STAMP + "detected dialog entitled: Unrecognized Username or Password; event=Opened\n"
    shell(gateway, "record", text=said)
    done = {"hold": gateway.held, "cold start": gateway.facts.with_name("cold-paper")}
    assert [each for each, file in done.items() if file.exists()] == [does] * (does != "nothing")


GO = 'until [ -e "$HOME/go" ]; do sleep 0.05; done'


def kill_recorders(gateway: Gateway) -> None:
    killed = recorders(gateway)
    assert killed
    for recorder in killed:
        with suppress(ProcessLookupError):
            os.kill(recorder, signal.SIGKILL)
    until(lambda: not {*killed} & {*recorders(gateway)})


def recorders(gateway: Gateway) -> list[int]:
    own = f"{gateway.home}/gangway/login.sh\0record\0".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if own in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def test_the_image_runs_without_the_hooks_folder(gateway: Gateway) -> None:
    (gateway.home / "gangway" / "login.sh").unlink()
    gateway.java("exit 5")
    gateway.launch().communicate(timeout=60)
    assert gateway.running[0].returncode == 5


def test_an_early_error_ends_as_without_the_hooks(gateway: Gateway) -> None:
    began = time.monotonic()
    _, errors = gateway.launch(FAILS="1").communicate(timeout=60)
    assert gateway.running[0].returncode == 3
    assert errors.endswith("Error: not valid\n")
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("code", [0, 1, 83, 137])
def test_an_end_is_passed_on_at_once(gateway: Gateway, code: int) -> None:
    gateway.java(f"exit {code}")
    began = time.monotonic()
    gateway.launch().communicate(timeout=60)
    assert gateway.running[0].returncode == code
    assert time.monotonic() - began < 3


def test_something_left_behind_does_not_hold_up_the_end(gateway: Gateway) -> None:
    gateway.java("sleep 100 & exit 4")
    process = gateway.launch()
    assert process.wait(30) == 4


def test_what_was_said_last_is_heard_before_the_end(gateway: Gateway) -> None:
    """On a busy machine the recorder comes to it late: ended before, it would be tried again."""
    script = gateway.home / "gangway" / "login.sh"
    late = script.read_text().replace("\ntake() {\n", "\ntake() {\n    sleep 0.3\n")
    assert late != script.read_text()
    script.unlink()
    script.write_text(late)
    gateway.java("say Login attempt: 1", "say 'End this session (scenario 2)'", "exit 0")
    process = gateway.launch()
    assert process.stdout is not None
    assert any("gangway: the login is held: session-taken" in line for line in process.stdout)
    assert gateway.held.exists()
    assert process.poll() is None


def test_a_stop_is_quick_and_passed_on(gateway: Gateway) -> None:
    gateway.java("trap 'exit 0' TERM", "say Login attempt: 1", "sleep 60 & wait")
    process = gateway.launch()
    until(lambda: gateway.state() == "logging-in")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert time.monotonic() - began < 10
    assert gateway.state() == "stopped"


def test_hooks_run_twice_change_nothing(gateway: Gateway) -> None:
    files = [gateway.launcher, gateway.launcher.with_name("ibcstart.image.sh")]
    before = [(path.read_bytes(), path.stat().st_ino) for path in files]
    gateway.start()
    assert [(path.read_bytes(), path.stat().st_ino) for path in files] == before
    assert files[1].read_text().count("# gangway: the login") == 1


# --- held -----------------------------------------------------------------------------------------

REFUSED = "say 'detected dialog entitled: Unrecognized Username or Password; event=Opened'"


@pytest.mark.parametrize(
    ("commands", "code"),
    [
        ((REFUSED, "rest"), "bad-credentials"),
        (("say Too many failed login attempts. Please wait 5", "rest"), "account-locked"),
        (("say 'Connection to server failed: set up a Passkey'", "rest"), "passkey-required"),
        (("say 'End this session (scenario 2)'", "exit 0"), "session-taken"),
        (("say 'so end this session (scenario 4)'", "exit 0"), "session-taken"),
        (("exit 77",), "bad-credentials"),
        (("exit 78",), "configuration"),
    ],
)
def test_what_only_a_person_can_mend_is_tried_once(
    gateway: Gateway, commands: tuple[str, ...], code: str
) -> None:
    gateway.java(*commands)
    process = gateway.launch()
    assert process.stdout is not None
    assert any(f"gangway: the login is held: {code}" in line for line in process.stdout)
    until(lambda: gateway.held.exists() and gateway.state() == "held")
    time.sleep(1.5)
    assert process.poll() is None, "the container stays up"
    assert gateway.runs == 1
    assert gateway.code() == code
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    assert time.monotonic() - began < 10, "a stop of a held login is quick"


def test_what_keeps_an_account_from_being_locked_outlives_a_power_cut(
    gateway: Gateway, tmp_path: Path
) -> None:
    """An attempt counts before it is made, and what is held is on the disk at once."""
    tools, asked = tmp_path / "tools", tmp_path / "asked"
    tools.mkdir()
    (tools / "sync").write_text(f'#!/bin/bash\necho "$1 $(cat {gateway.held}*)" >>{asked}\n')
    (tools / "sync").chmod(0o755)
    gateway.java(REFUSED, "rest")
    gateway.launch(PATH=f"{tools}:{os.environ['PATH']}")
    until(lambda: asked.exists() and len(asked.read_text().splitlines()) == 3)
    launched, held, named = asked.read_text().splitlines()
    assert launched.split() == [str(gateway.facts)]
    assert held.startswith(f"{gateway.held}.new bad-credentials ")
    assert named.startswith(f"{gateway.facts.parent} bad-credentials ")


def test_held_stays_held_until_a_person_begins_afresh(gateway: Gateway) -> None:
    gateway.java(REFUSED, "rest")
    process = gateway.launch()
    until(lambda: gateway.state() == "held")
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    gateway.start()  # the engine, after a reboot
    process = gateway.launch()
    time.sleep(1.5)
    assert gateway.runs == 1
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    (gateway.home / "state" / "afresh").touch()
    gateway.start()
    gateway.java("say Login attempt: 1", "say Login has completed", "rest")
    gateway.launch()
    until(lambda: gateway.state() == "logged-in")
    assert gateway.runs == 2
    assert "pause" not in gateway.facts.read_text()


def test_one_failed_login_is_not_held_and_the_next_is_spaced_out(gateway: Gateway) -> None:
    gateway.java(
        "say Login attempt: 1",
        "for event in Activated Focused Opened; do"
        " say 'detected dialog entitled: Login failed; event='$event; done",
        "say Login failed",
        'say Cold restart in progress; touch "$TWS_SETTINGS_PATH/COLDRESTART"; exit 0',
    )
    process = gateway.launch()
    until(lambda: gateway.facts.exists() and "pause " in gateway.facts.read_text())
    time.sleep(1.0)
    assert gateway.runs == 1
    assert not gateway.held.exists()
    facts = gateway.facts.read_text()
    login = replay(facts)
    assert login.state == "waiting-broker"
    assert login.retry_at is not None
    launched = next(int(line.split()[0]) for line in facts.splitlines() if " launch " in line)
    assert 60 <= login.retry_at - launched <= 1260
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    assert time.monotonic() - began < 10
    # The engine starts it again: the pause is still kept.
    gateway.start()
    gateway.launch()
    time.sleep(1.5)
    assert gateway.runs == 1


def test_a_refused_token_means_one_cold_start(gateway: Gateway) -> None:
    now = int(time.time())
    gateway.facts.write_text(f"{now - 9000} launch password\n{now - 8990} login\n")
    gateway.token.touch()
    gateway.java(
        'if [ -e "$TWS_SETTINGS_PATH/x/autorestart" ]; then',
        "say Re-starting session",
        REFUSED,
        "rest",
        "fi",
        "say Login attempt: 1",
        "say Login has completed",
        "rest",
    )
    gateway.launch()
    until(lambda: "pause " in gateway.facts.read_text())
    assert gateway.runs == 1
    assert not gateway.token.exists()
    assert not gateway.held.exists()
    assert gateway.code() == "token-refused"


def test_a_planned_restart_waits_for_nothing(gateway: Gateway) -> None:
    gateway.java(
        "say Login attempt: 1",
        "say Login has completed",
        # a recorder that is late, on a busy machine, has no part in it
        'until [ "$(grep -c " login$" "$HOME/state/login-paper")" = "$(wc -l <"$HOME/runs")" ]; do',
        "sleep 0.05; done",
        '[ "$(wc -l <"$HOME/runs")" -lt 3 ] || rest',
        'touch "$TWS_SETTINGS_PATH/x/autorestart"',
    )
    gateway.launch()
    until(lambda: gateway.runs == 3)
    until(lambda: gateway.state() == "logged-in")
    text = gateway.facts.read_text()
    assert "pause" not in text
    assert text.count("launch token") == 2


def test_launcher_log_is_recorded_too(gateway: Gateway) -> None:
    gateway.java("say Login attempt: 1", "rest")
    gateway.launch()
    until(lambda: gateway.state() == "logging-in")

    def heard() -> bool:  # what it said before anyone listened is not recorded
        with (gateway.settings / "launcher.log").open("a") as log:
            for text in (
                "NS_AUTH_START version=1 pwd=1 soft=0 token(s)=[5|SMS|] initialTokenType=PWD",
                "Received CHALLENGE",
            ):
                log.write(f"2026-11-28 10:00:00.123 INFO  [JTS] - {text}\n")
        time.sleep(0.5)
        return gateway.state() == "waiting-2fa"

    until(heard)
    assert replay(gateway.facts.read_text()).kind == "code"


CAPTURED = PROJECT / "tests" / "login" / "logs"
BY_ITSELF = sorted(CAPTURED.glob("*.launcher.log"))


def recorded(gateway: Gateway, log: Path, controller: str) -> Login:
    gateway.facts.unlink(missing_ok=True)
    gateway.held.unlink(missing_ok=True)
    environment = gateway.environment(USE_IBG_CONTROLLER=controller)
    command = ["bash", str(gateway.home / "gangway" / "login.sh"), "record"]
    subprocess.run(command, env=environment, input=log.read_bytes(), check=True, timeout=60)
    return replay(gateway.facts.read_text() if gateway.facts.exists() else "")


def test_launcher_log_alone_is_recorded_as_it_is_explained(gateway: Gateway) -> None:
    """With ibg-controller nothing else tells of a launch, an attempt or a saved session."""
    assert len(BY_ITSELF) > 40
    for log in BY_ITSELF:
        login = recorded(gateway, log, "yes")
        found = explain(log.read_text().splitlines()).shown()
        code = (found["trouble"] or {"code": None})["code"]
        assert (login.state, login.code) == (found["state"], code), log.name
        assert login.attempts == found["attempts"], log.name


def test_a_refused_token_is_never_held_whoever_tells(gateway: Gateway) -> None:
    for log in sorted(CAPTURED.glob("token-*.log")):
        for controller in ("", "yes"):
            assert not recorded(gateway, log, controller).held, (log.name, controller)
            assert not gateway.held.exists()


def test_what_is_written_down_stays_small_and_holds_no_text(gateway: Gateway) -> None:
    now = int(time.time())
    gateway.facts.write_text("".join(f"{now - 9999} failed\n" for _ in range(5000)))
    gateway.java(
        "say 'detected dialog entitled: Account U1234567 from 203.0.113.9; event=Opened'",
        "say 'Login attempt: 1 for mistral'",
        "rest",
    )
    gateway.launch()
    until(lambda: gateway.state() == "logging-in")
    text = gateway.facts.read_text()
    assert len(text.splitlines()) < 400
    assert not [secret for secret in ("1234567", "203.0", "mistral") if secret in text]


def test_states_are_seen_within_five_seconds(gateway: Gateway) -> None:
    """Written down as they come: each within a second here."""
    gateway.java(
        *(
            f'say "{line}"; until [ -e "$HOME/go{number}" ]; do sleep 0.05; done'
            for number, (line, _) in enumerate(SEEN)
        )
    )
    gateway.launch()
    for number, (_, state) in enumerate(SEEN):
        until(lambda state=state: gateway.state() == state, 5)  # type: ignore[misc]
        (gateway.home / f"go{number}").touch()


SEEN = [
    ("Login attempt: 1", "logging-in"),
    ("detected dialog entitled: Second Factor Authentication; event=Opened", "waiting-2fa"),
    ("If login has not completed, IBC will exit in 60 seconds", "logging-in"),
    ("Login has completed", "logged-in"),
    ("detected frame entitled: Login Messages; event=Opened", "blocked"),
    ("detected frame entitled: Login Messages; event=Closed", "logged-in"),
    ("Auto restart in progress", "restarting"),
]


def test_a_state_folder_that_cannot_be_written_to_still_spaces_out(gateway: Gateway) -> None:
    script = (gateway.home / "gangway" / "login.sh").read_text()
    assert "/tmp/gangway-state" in script
    plain = gateway.home / "no-folder"
    plain.write_text("")
    done = subprocess.run(
        ["bash", str(gateway.home / "gangway" / "login.sh"), "next", "100", "no"],
        env=gateway.environment(GANGWAY_STATE_PATH=str(plain / "below")),
        input="99 launch\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "159 row\n"


def test_ibg_controllers_own_health_is_recorded(gateway: Gateway) -> None:
    word = ["TWO_FA"]

    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"status": "unhealthy", "state": word[0], "mode": "paper"}).encode()
            self.send_response(503)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hook = gateway.home / "gangway" / "start" / "40-login.sh"
        port = str(server.server_address[1])
        started = subprocess.Popen(
            ["bash", str(hook)],
            env=gateway.environment(USE_IBG_CONTROLLER="yes", GANGWAY_HEALTH_PORT=port),
            start_new_session=True,
            text=True,
        )
        gateway.running.append(started)
        assert started.wait(30) == 0, "the hook does not wait for what it began"
        until(lambda: gateway.state() == "waiting-2fa")
        word[0] = "MONITORING"
        until(lambda: gateway.state() == "logged-in")
        assert replay(gateway.facts.read_text()).controller == "ibg-controller"
        server.shutdown()


def test_what_the_bridge_asks_for_is_told_to_the_controller_once(gateway: Gateway) -> None:
    """Two words only, fresh ones; what was asked before the container began is over."""
    said: list[str] = []

    class Commands(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            said.append(self.rfile.readline().decode().strip())
            self.wfile.write(b"OK\n")

    request = gateway.home / "requests" / "request-paper"
    request.parent.mkdir()

    def ask(word: str, ago: float = 0) -> None:
        partial = request.with_name(".partial")
        partial.write_text(f"{time.time() - ago:.0f} {word}\n")
        partial.replace(request)

    ask("RESTART")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Commands) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        gateway.java("say Login has completed", "rest")
        gateway.launch(GANGWAY_COMMAND_PORT=str(server.server_address[1]))
        until(lambda: gateway.state() == "logged-in")
        time.sleep(2.5)
        assert said == [], "it was asked of an earlier container"
        for word, ago in (("STOP", 0), ("RESTART; rm -rf /", 0), ("RESTART", 300)):
            ask(word, ago)
            time.sleep(2.5)
        assert said == []
        ask("RECONNECTDATA", 1)
        until(lambda: said == ["RECONNECTDATA"])
        until(lambda: "requested RECONNECTDATA" in gateway.facts.read_text())
        time.sleep(2.5)
        assert said == ["RECONNECTDATA"]
        assert gateway.state() == "logged-in"
        server.shutdown()


def test_no_event_is_lost_while_old_ones_are_dropped(gateway: Gateway) -> None:
    """Another part of the script writes a line at the worst moment."""
    gateway.facts.parent.mkdir(exist_ok=True)
    gateway.facts.write_text("".join(f"{number} failed\n" for number in range(1, 1001)))
    slow = gateway.home / "slow"
    slow.mkdir()
    (slow / "mv").write_text('#!/bin/bash\necho "2000 launch token" >>"$2"\nexec /bin/mv "$@"\n')
    (slow / "mv").chmod(0o755)
    done = subprocess.run(
        ["bash", str(gateway.home / "gangway" / "login.sh"), "gate"],
        env=gateway.environment(PATH=f"{slow}:{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        check=True,
        timeout=110,
    )
    lines = gateway.facts.read_text().splitlines()
    assert done.stderr == ""
    assert lines[:-1] == [*(f"{number} failed" for number in range(701, 1001)), "2000 launch token"]
    assert lines[-1].endswith(" launch password")
    assert not list(gateway.facts.parent.glob("*.old"))


# --- a disk that takes nothing -------------------------------------------------------------------


def full(gateway: Gateway) -> dict[str, str]:
    """Nothing can be written down: folders stand where the files would be."""
    gateway.facts.mkdir()
    gateway.held.with_name(f"{gateway.held.name}.new").mkdir()
    return {"GANGWAY_SPARE_PATH": str(gateway.home / "memory")}


def test_a_full_disk_takes_no_hold_away(gateway: Gateway) -> None:
    spare = full(gateway)
    gateway.java("say Login attempt: 1", REFUSED, "rest")
    process = gateway.launch(**spare)
    assert process.stdout is not None
    assert any("gangway: the login is held: bad-credentials" in line for line in process.stdout)
    time.sleep(1.5)
    assert process.poll() is None, "the container stays up"
    assert gateway.runs == 1
    assert not gateway.held.exists()


def test_a_full_disk_takes_no_pause_away(gateway: Gateway) -> None:
    spare = full(gateway)
    gateway.java("say Login attempt: 1", "say Login failed", "exit 1")
    gateway.launch(**spare).wait(60)
    process = gateway.launch(**spare)  # by the engine
    assert process.stdout is not None
    assert any("gangway: the next login attempt is in" in line for line in process.stdout)
    assert gateway.runs == 1


def test_what_went_into_memory_counts_in_its_place(gateway: Gateway) -> None:
    """The disk was full for a while: what was written then is older than what came after."""
    spare = gateway.home / "memory"
    spare.mkdir()
    now = int(time.time())
    gateway.facts.write_text(f"{now - 200} launch password\n{now - 20} launch password\n")
    (spare / "login-paper").write_text(f"{now - 100} launch password\n")
    gateway.java("say Login attempt: 1", "rest")
    process = gateway.launch(GANGWAY_SPARE_PATH=str(spare))
    assert process.stdout is not None
    said = next(line for line in process.stdout if "the next login attempt is in" in line)
    assert int(said.split(" is in ")[1].split()[0]) > 180, "240 s after the third"


@pytest.mark.parametrize("typed", [False, True])
def test_what_the_container_is_stays_known_for_as_long_as_it_runs(
    gateway: Gateway, *, typed: bool
) -> None:
    """A gateway that restarts every night says more in two months than is kept."""
    begun = ["by ibc", "boot", "totp", "by ibc", "boot", "parks", *(["totp"] if typed else [])]
    nights = ["launch token", "login", "exit 0"] * 300
    gateway.facts.write_text(
        "".join(f"{number} {event}\n" for number, event in enumerate([*begun, *nights], 1))
    )
    shell(gateway, "gate", text="")
    lines = gateway.facts.read_text().splitlines()
    assert len(lines) < 310
    login = replay("\n".join(lines))
    assert (login.controller, login.parks, login.types) == ("ibc", True, typed)


def test_with_ibg_controller_what_the_bridge_asks_for_is_passed_on_too(gateway: Gateway) -> None:
    class Commands(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(b"OK\n")

    request = gateway.home / "requests" / "request-paper"
    request.parent.mkdir()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Commands) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started = subprocess.Popen(
            ["bash", str(gateway.home / "gangway" / "start" / "40-login.sh")],
            env=gateway.environment(
                USE_IBG_CONTROLLER="yes",
                GANGWAY_HEALTH_PORT="1",
                GANGWAY_COMMAND_PORT=str(server.server_address[1]),
            ),
            start_new_session=True,
            text=True,
        )
        gateway.running.append(started)
        assert started.wait(30) == 0

        def taken() -> bool:
            # What lies there when it begins is of an earlier container: it is asked again.
            request.write_text(f"{time.time():.0f} RECONNECTDATA\n")
            return "requested RECONNECTDATA" in gateway.facts.read_text()

        until(taken)
        server.shutdown()
    request.write_text(f"{time.time():.0f} RESTART\n")  # nobody listens now
    until(lambda: "not-taken RESTART" in gateway.facts.read_text())
