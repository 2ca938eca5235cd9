"""One sandbox for the tests of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox.stack import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder: Path = tmp_path_factory.mktemp("sandbox")
    found = Sandbox(folder)
    done = found.deploy("up")
    assert done.returncode == 0, done.stderr
    yield found
    done = found.deploy("down")
    assert done.returncode == 0, done.stderr
