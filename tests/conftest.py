"""What the whole suite shares: tests that need more than Python are skipped, or required."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from tests.closed_port import free_port
from tests.engine.parts import engine_missing
from tests.login.parts import controllers_missing
from tests.vm.recorded_disk import disk_missing

# A first example may import half of the program, on a machine that does other things as well.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

# A background job of a shell ignores Ctrl-C, and so would all that it starts: tests that press it
# would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def unused_tcp_port() -> int:
    """Instead of pytest-asyncio's, which another connection may have before it is used."""
    return free_port()


def _browser_missing() -> str | None:
    return None if shutil.which("chromium") else "no Chromium on this machine (make engine)"


def _restic_missing() -> str | None:
    there = shutil.which("restic") and Path("/usr/sbin/sshd").exists()
    return None if there else "no restic or no SSH server on this machine (make engine)"


def _vm_missing() -> str | None:
    return None if os.environ.get("GANGWAY_VM") else "a virtual machine is slow (make vm-test)"


def _shells_missing() -> str | None:
    absent = [name for name in ("bash", "zsh", "fish") if shutil.which(name) is None]
    return f"no {' and no '.join(absent)} on this machine (make engine)" if absent else None


_NEEDS: dict[str, Callable[[], str | None]] = {
    "engine": engine_missing,
    "browser": _browser_missing,
    "restic": _restic_missing,
    "vm": _vm_missing,
    "disk": disk_missing,
    "controllers": controllers_missing,
    "shells": _shells_missing,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what cannot run here; what GANGWAY_REQUIRE lists must be there."""
    required = set(os.environ.get("GANGWAY_REQUIRE", "").split(",")) - {""}
    unknown = required - set(_NEEDS) - {"clients"}  # those are seen to where they run
    if unknown:
        raise pytest.UsageError(f"GANGWAY_REQUIRE asks for what nobody knows: {sorted(unknown)}")
    for need, missing in _NEEDS.items():
        wanting = [item for item in items if item.get_closest_marker(need)]
        if not wanting or (reason := missing()) is None:
            continue
        if need in required:
            raise pytest.UsageError(f"GANGWAY_REQUIRE asks for {need}: {reason}")
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason=reason))
