"""Caddy under more strangers than its memory could hold."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from infrastructure.render import release
from tests.deploy import conftest
from tests.deploy.test_caddy import CADDY
from tests.hostile.front import caddy, request, send

if TYPE_CHECKING:
    from collections.abc import Callable

    from infrastructure.config import Target

make = conftest.make


@pytest.mark.skipif(CADDY is None, reason="needs Caddy: make setup")
def test_idle_connections_fit_the_memory_and_keep_nobody_out(
    make: Callable[..., Target], tmp_path: Path
) -> None:
    """Invariant: what is held for strangers is bounded, and the owner gets through."""
    target = make()
    composed = yaml.safe_load(release(target, conftest.SECRET_VALUES).file("compose.yaml").content)
    service = composed["services"]["caddy"]
    most_files = service["ulimits"]["nofile"]["soft"]
    half_a_head = request("/", f"X-Long: {'x' * 7_000}")[:-2]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with caddy(target, tmp_path / "caddy", 9) as front, contextlib.ExitStack() as held:
        assert front.process is not None
        resource.prlimit(front.process, resource.RLIMIT_NOFILE, (most_files, most_files))
        for _ in range(most_files + 100):
            plain = held.enter_context(socket.create_connection(("127.0.0.1", front.https), 5))
            plain.settimeout(2)
            with contextlib.suppress(OSError):
                secure = held.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
                secure.sendall(half_a_head)
                continue
            break  # full: the rest waits in the kernel
        begun = time.monotonic()
        while not send(front.https, request(), "localhost"):
            assert time.monotonic() - begun < 40
        status = Path(f"/proc/{front.process}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    assert int(line.split()[1]) / 1024 <= int(service["mem_limit"][:-1])
