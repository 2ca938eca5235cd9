"""The stack's images, from the private engine onto a machine."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from tests.engine.parts.engine import ENGINE_HOST

if TYPE_CHECKING:
    from tests.vm.machine import Machine


def load_images(machine: Machine) -> None:
    """Sends what the rendered stack names."""
    for image in _images(machine):
        saved = subprocess.run(
            f"docker -H {ENGINE_HOST} save {image} | gzip -1",
            shell=True,
            capture_output=True,
            check=True,
        )
        machine.ssh("docker load", data=saved.stdout, seconds=3600)


def _images(machine: Machine) -> list[str]:
    """What the rendered stack names, the bridge's own built by the private engine."""
    rendered = machine.folder / "rendered"
    done = machine.deploy("render", "--out", str(rendered))
    assert done.returncode == 0, done.stderr
    file = next(rendered.rglob("compose.yaml"))
    environment = {**os.environ, "DOCKER_HOST": ENGINE_HOST}
    build = ["docker", "compose", "--file", str(file), "--project-directory", str(file.parent)]
    text = file.read_text().replace("/opt/gangway/vm/current/image", str(file.parent / "image"))
    file.write_text(text)
    subprocess.run([*build, "build", "bridge"], env=environment, check=True, capture_output=True)
    listed = subprocess.run(
        [*build, "config", "--images"], env=environment, check=True, capture_output=True, text=True
    )
    return sorted(set(listed.stdout.split()))
