"""One engine, one SSH server and one copy of the product for all; stacks of a test's own."""

import copy
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.parts import ssh
from tests.engine.parts.ssh import SshServer
from tests.engine.parts.stack import Stack, checkout


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder needs the engine, and long enough timeouts."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.engine)
            if item.get_closest_marker("timeout") is None:  # a module may need longer
                item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="session")
def server(scratch: Path) -> Iterator[SshServer]:
    running = ssh.start(scratch / "ssh")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def product(scratch: Path) -> Path:
    return checkout(scratch / "product")


@pytest.fixture(scope="session")
def make_stack(scratch: Path, server: SshServer, product: Path) -> Iterator[Callable[[str], Stack]]:
    """Makes stacks whose names are unique on this engine; all are removed at the end."""
    made: list[Stack] = []

    def make(name: str) -> Stack:
        unique = f"{name}-{uuid.uuid4().hex[:6]}"
        made.append(Stack(unique, scratch / unique, server, product))
        return made[-1]

    yield make
    for stack in made:
        stack.remove()


@pytest.fixture(scope="session")
def _shared(make_stack: Callable[[str], Stack]) -> Stack:
    stack = make_stack("shared")
    stack.up()
    return stack


@pytest.fixture
def stack(_shared: Stack) -> Iterator[Stack]:
    """A stack that is up and healthy as `make_stack` set it up; it is put back after the test."""
    settings, product = copy.deepcopy(_shared.settings), _shared.product
    yield _shared
    changed = (settings, product) != (_shared.settings, _shared.product)
    _shared.settings, _shared.product = settings, product
    if changed:
        _shared.up()
