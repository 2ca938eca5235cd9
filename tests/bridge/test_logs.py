"""A log that cannot be written holds nobody up and ends nothing."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.logs import Output

ROOT = Path(__file__).resolve().parents[2]
TALK = """
import sys
import structlog
from bridge import logs
logs.configure("info")
for number in range(5000):
    structlog.get_logger("talk").error("event", number=number)
    logs.line("info", "line", number=number)
print("done", flush=True)
sys.stdin.readline()
logs.line("info", "last")
"""


def told(lines: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines.splitlines()]


def test_a_log_that_nobody_reads_stops_nothing() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", TALK],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    with child, child.stderr:
        assert child.stdout.readline() == b"done\n"
        kept = os.read(child.stderr.fileno(), 1 << 20)
        child.stdin.write(b"\n")
        child.stdin.close()
        events = told(kept + child.stderr.read())
    assert [each.get("number") for each in events[:4]] == [0, 0, 1, 1]
    assert [each["event"] for each in events[-2:]] == ["log-lines-lost", "last"]
    assert len(events) - 2 + int(str(events[-2]["count"])) == 10_000


def test_a_full_disk_under_the_log_stops_nothing(tmp_path: Path) -> None:
    file = tmp_path / "log"
    code = f"import resource\nresource.setrlimit({resource.RLIMIT_FSIZE}, (9000, -1))\n{TALK}"
    more = f"\nresource.setrlimit({resource.RLIMIT_FSIZE}, (-1, -1))\nlogs.line('info', 'after')"
    with file.open("wb") as log:
        run = subprocess.run(
            [sys.executable, "-c", code + more],
            cwd=ROOT,
            input=b"\n",
            stdout=subprocess.PIPE,
            stderr=log,
            check=True,
        )
    assert run.stdout == b"done\n"
    *_, lost, after = file.read_bytes().splitlines()
    assert json.loads(lost)["event"] == "log-lines-lost"
    assert json.loads(after)["event"] == "after"


@pytest.mark.parametrize("reader", ["gone", "there"])
def test_a_line_is_written_or_counted(reader: str) -> None:
    out, into = os.pipe()
    if reader == "gone":
        os.close(out)
    output = Output(into)
    output.write("one")
    output.write("two")
    os.close(into)
    if reader == "there":
        assert os.read(out, 100) == b"one\ntwo\n"
        os.close(out)


def test_the_bridge_starts_without_what_only_a_terminal_needs() -> None:
    look = "import bridge.__main__, sys; print(*{'rich', 'numpy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", look], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
