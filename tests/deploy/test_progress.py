"""What is shown while a host works: on a terminal, in a pipe, with --json and with --quiet."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
SCRIPT = """
import sys, time
from infrastructure.apply.protocol import events
from infrastructure.cli.output import Output
from infrastructure.cli.progress import Progress
out = Output(json="--json" in sys.argv)
def pause():
    time.sleep(0.15)
    if progress._moving:
        progress._moving.refresh()  # what it does ten times a second, where it has its turn
with Progress(out, quiet="--quiet" in sys.argv) as progress:
    progress.event(events.Step("building bridge"))
    for step in (1, 2, 3):
        progress.event(events.Build("bridge", step, 3, f"RUN part {step}"))
        pause()
    for sent in (1_000_000, 3_000_000, 4_000_000):
        progress.event(events.Upload("bridge", sent, 4_000_000))
        pause()
    progress.event(events.Upload("small", 9, 9))
    progress.event(events.Waiting("gateway", 90, "waiting for 2FA: approve on IBKR Mobile"))
    progress.event(events.Stage("bridge", "bridge connected"))
"""


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", SCRIPT, *arguments]


def on_terminal(*arguments: str, **variables: str) -> str:
    """What is written to a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", **variables}
    with subprocess.Popen(
        _command(*arguments), cwd=PROJECT, env=environment, stderr=theirs, stdout=subprocess.PIPE
    ) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                chunk = os.read(ours, 65_536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not chunk:
                break
            seen += chunk
    os.close(ours)
    assert process.returncode == 0, seen
    return seen.decode()


def in_pipe(*arguments: str) -> tuple[str, str]:
    done = subprocess.run(
        _command(*arguments), cwd=PROJECT, capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr


def test_bars_are_drawn_on_a_terminal() -> None:
    seen = on_terminal()
    assert "\x1b[" in seen
    assert "━" in seen
    assert "3.0/4.0 MB" in seen
    assert "MB/s" in seen
    assert "building bridge" in seen
    assert "2/3" in seen
    assert "RUN part 2" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l"), "the cursor is shown again"
    assert "bridge: bridge connected" in seen


def test_a_dumb_terminal_gets_lines() -> None:
    assert not CONTROL.search(on_terminal(TERM="dumb").replace("\r\n", "\n"))


def test_a_pipe_gets_lines_without_control_characters() -> None:
    out, err = in_pipe()
    assert out == ""
    assert not CONTROL.search(err)
    assert err.splitlines()[:4] == [
        "· building bridge",
        "  bridge: build step 1/3 RUN part 1",
        "  bridge: build step 2/3 RUN part 2",
        "  bridge: build step 3/3 RUN part 3",
    ]
    assert re.fullmatch(r"  bridge: sent of 4\.0 MB, \d+\.\d MB/s", err.splitlines()[4])
    assert "small" not in err


def test_json_lines_on_standard_error() -> None:
    out, err = in_pipe("--json")
    assert out == ""
    events = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [event["step"] for event in events if event["event"] == "build"] == [1, 2, 3]
    uploads = [event for event in events if event["event"] == "upload"]
    whole, small = uploads[-2:]
    assert {"what": "bridge", "sent": 4_000_000, "total": 4_000_000}.items() <= whole.items()
    assert whole["rate"] > 100_000
    assert small == {"event": "upload", "what": "small", "sent": 9, "total": 9, "rate": None}


def test_quiet_only_asks_for_a_person() -> None:
    assert in_pipe("--quiet")[1] == (
        "  gateway: waiting for 2FA: approve on IBKR Mobile (1:30 left)\n"
    )
