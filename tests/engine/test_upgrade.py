"""A newer image under a tag: moved, published again, broken, and one that does not become healthy.

The registry is Debian's own, on loopback.
"""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.closed_port import free_port
from tests.engine.parts.engine import docker
from tests.engine.parts.stack import Stack

PROGRAM = "docker-registry"
CADDY = "caddy:2"
pytestmark = pytest.mark.skipif(
    shutil.which(PROGRAM) is None, reason="there is no docker-registry (apt-get install it)"
)


@dataclass
class Registry:
    port: int
    folder: Path

    @property
    def image(self) -> str:
        return f"127.0.0.1:{self.port}/test/caddy:stable"

    def publish(self, version: str, *, command: str = "") -> str:
        """Another image under the tag, gone from the engine itself; its id."""
        change = ["--change", f"LABEL org.opencontainers.image.version={version}"]
        change += ["--change", f"ENTRYPOINT {command}"] if command else []
        before = docker("image", "inspect", "-f", "{{.Id}}", self.image, check=False).strip()
        made = docker("create", CADDY).strip()
        Path(self.folder, "version").write_text(version * 1000)
        docker("cp", str(self.folder / "version"), f"{made}:/version")
        image = docker("commit", *change, made, self.image).strip()
        docker("rm", made)
        docker("push", self.image)
        docker("image", "rm", self.image)
        if before:
            docker("tag", before, self.image)
        return image

    def broken(self) -> None:
        """What the tag stands for lacks a part."""
        url = f"http://127.0.0.1:{self.port}/v2/test/caddy/manifests/stable"
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        with urllib.request.urlopen(
            urllib.request.Request(url, headers={"Accept": kind}), timeout=10
        ) as answer:
            last = json.load(answer)["layers"][-1]["digest"].partition(":")[2]
        shutil.rmtree(self.folder / "data/docker/registry/v2/blobs/sha256" / last[:2] / last)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    port = free_port()
    config = tmp_path / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    process = subprocess.Popen([PROGRAM, "serve", str(config)])
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=2).close()
                break
            except OSError:
                time.sleep(0.1)
        yield Registry(port, tmp_path)
    finally:
        process.terminate()
        process.wait(10)
        docker("image", "rm", "-f", f"127.0.0.1:{port}/test/caddy:stable", check=False)


@pytest.mark.timeout(600)
def test_a_tag_that_moves_is_taken_and_a_bad_one_is_not(
    make_stack: Callable[[str], Stack], registry: Registry
) -> None:
    stack = make_stack("upgrade")
    stack.settings["caddy"]["image"] = registry.image
    first = registry.publish("1.0")
    stack.up()
    assert stack.container("caddy")["Image"] == first
    looked = stack.deploy("upgrade", "--check", "--json")
    assert (looked.code, looked.document["changed"]) == (0, False), looked.out + looked.err

    second = registry.publish("1.1")  # the tag was published again
    assert stack.deploy("plan", "--json").document["changed"] is False
    looked = stack.deploy("upgrade", "--check", "--json")
    assert looked.code == 3
    [caddy] = [one for one in looked.document["services"] if one["service"] == "caddy"]
    assert (caddy["newer"], caddy["from"]["version"]) == (True, "1.0")
    assert "upgrade" in stack.deploy("doctor").out
    before = stack.started()
    done = stack.deploy("upgrade", "caddy", "--yes", "--json")
    assert done.code == 0, done.out + done.err
    after = stack.started()
    assert stack.container("caddy")["Image"] == second
    assert (after["gateway"], after["bridge"]) == (before["gateway"], before["bridge"])
    assert docker("image", "inspect", "-f", "{{.Id}}", registry.image).strip() == second

    registry.publish("1.2", command='["/bin/false"]')
    failed = stack.deploy("upgrade", "caddy", "--yes", "--json", "--wait", "30")
    assert failed.code == 1
    assert failed.document["restored"] is True, failed.out + failed.err
    assert stack.container("caddy")["Image"] == second
    assert docker("image", "inspect", "-f", "{{.Id}}", registry.image).strip() == second
    looked = stack.deploy("upgrade", "--check")
    assert looked.code == 0
    assert "did not become healthy here" in looked.out

    registry.publish("1.3")
    registry.broken()
    before = stack.started()
    failed = stack.deploy("upgrade", "caddy", "--yes")
    assert failed.code == 1
    assert "cannot be pulled" in failed.err
    assert stack.started() == before
