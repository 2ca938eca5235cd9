"""A fresh account with nothing but Python and make: a clone, `make up`, a test run, `make down`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.stack import PROJECT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a fresh account"),
    pytest.mark.skipif(not shutil.which("setpriv"), reason="util-linux's setpriv is missing"),
    pytest.mark.skipif(not (PROJECT / ".git").exists(), reason="not a checkout"),
]
UID = "64123"
"""Nobody's: no home, no groups, no entry in the password file."""


@pytest.fixture
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The account's home: a folder that only it may enter."""
    home = Path("/var/tmp") / f"gangway-fresh-{os.getpid()}"
    home.mkdir(mode=0o755)
    os.chown(home, int(UID), int(UID))
    yield home
    if (home / "gangway" / ".venv").exists():
        run(home, "make", "down", folder=home / "gangway")
    shutil.rmtree(home, ignore_errors=True)


def run(home: Path, *command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command as that account; of this process's environment only what reaches a registry."""
    base = Path(sys.base_prefix)
    passed = ("SSL_CERT_FILE", "PIP_CERT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "HTTPS_PROXY")
    environment = {
        "HOME": str(home),
        "PATH": f"{home}/bin:/usr/bin:/bin",
        "PYTHON": _python(base),
        **{name: os.environ[name] for name in passed if name in os.environ},
    }
    return subprocess.run(
        ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", *command],
        cwd=folder or home,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _python(base: Path) -> str:
    """A Python of at least 3.11 that the account may run."""
    for found in ("/usr/bin/python3", "/usr/local/bin/python3", str(base / "bin" / "python3")):
        check = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
        done = subprocess.run(
            ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", found, "-c", check],
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            return found
    pytest.skip("no Python here that another account may run")


def test_both_commands_work_on_a_fresh_account(account: Path) -> None:
    python = run(account, "true")
    assert python.returncode == 0
    done = subprocess.run(
        ["git", "clone", "--quiet", "--no-local", f"file://{PROJECT}", str(account / "gangway")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    subprocess.run(["chown", "-R", f"{UID}:{UID}", str(account)], check=True)
    clone = account / "gangway"

    up = run(account, "make", "up", folder=clone)
    assert up.returncode == 0, up.stdout + up.stderr
    assert "healthy after" in up.stderr
    again = run(account, "make", "up", folder=clone)
    assert again.returncode == 0
    assert "nothing changed" in again.stderr

    tests = run(account, "scripts/test", "-q", "tests/deploy/prepare", folder=clone)
    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert " passed" in tests.stdout

    down = run(account, "make", "down", folder=clone)
    assert down.returncode == 0, down.stderr
    assert not (clone / ".gangway" / "sandbox").exists()
    deadline = time.monotonic() + 40
    while left := _running():
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def _running() -> list[str]:
    """The account's processes, but for those that only wait to be noticed."""
    command = ["ps", "-o", "stat=,args=", "-u", UID]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line for line in done.stdout.splitlines() if not line.startswith("Z")]
