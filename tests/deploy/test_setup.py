"""`scripts/setup` on an environment that an earlier run left half made."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def test_an_environment_that_was_interrupted_is_made_anew(tmp_path: Path) -> None:
    """Ctrl-C in the first seconds of `make up` must not spoil every later one."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(PROJECT / "scripts" / "setup", tmp_path / "scripts" / "setup")
    (tmp_path / "requirements").mkdir()
    for name in ("bootstrap.lock", "run.lock"):
        (tmp_path / "requirements" / name).write_text("# nothing\n")
    half = [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / ".venv")]
    subprocess.run(half, check=True)
    for _ in range(2):
        done = subprocess.run(
            ["scripts/setup", "run"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    pip = [str(tmp_path / ".venv" / "bin" / "python"), "-m", "pip", "--version"]
    assert subprocess.run(pip, capture_output=True, check=False).returncode == 0


def test_make_up_and_down_mean_the_sandbox_whatever_stack_yaml_says(tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text("targets: {prod: {host: a@192.0.2.1}}\n")
    shutil.copy(PROJECT / "Makefile", tmp_path / "Makefile")
    for word in ("up", "down"):
        done = subprocess.run(
            ["make", "--dry-run", word], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert f"./deploy.py --target sandbox {word}" in done.stdout
