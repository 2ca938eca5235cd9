"""One X server and one compiled stand-in for all; gateways under the real controllers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.login.parts.controllers import Display, compile_standin
from tests.login.parts.session import Session


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    running = Display()
    yield running.name
    running.stop()


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_standin(tmp_path_factory.mktemp("standin"))


@pytest.fixture
def make_session(display: str, standin: Path) -> Iterator[Callable[..., Session]]:
    """Makes gateways' homes (see Session); all are ended and removed after the test."""
    made: list[Session] = []

    def make(
        *script: str,
        variables: dict[str, str] | None = None,
        settings: dict[str, str] | None = None,
    ) -> Session:
        made.append(Session(standin, display, variables or {}, settings or {}))
        if script:
            made[-1].script(*script)
        return made[-1]

    yield make
    for session in made:
        session.stop()
