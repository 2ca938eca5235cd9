"""One sandbox for all pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox.stack import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    found = Sandbox(tmp_path_factory.mktemp("docs"))
    done = found.deploy("up")
    assert done.returncode == 0, done.stderr
    yield found
    done = found.deploy("down")
    assert done.returncode == 0, done.stderr
