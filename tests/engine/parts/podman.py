"""Podman in namespaces of its own (scripts/podman), to play Kubernetes manifests."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.engine.parts.engine import ENGINE_HOME, ENGINE_HOST

PROJECT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
}


def podman_missing() -> str | None:
    """Why manifests cannot be played here."""
    if not (ENGINE_HOME / "podman" / "usr" / "bin" / "podman").exists():
        return "no Podman in the engine's folder (Debian/Ubuntu, root: make engine)"
    return None if shutil.which("kubectl") else "no kubectl, whose kustomize builds the manifests"


class Podman:
    """The namespaces, for as long as a test needs them."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            [str(PROJECT / "scripts" / "podman"), "run"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        self._pid = children.read_text().split()[0]
        self.clean()

    def clean(self) -> None:
        """Nothing but images is kept from one test to the next."""
        for words in (("pod", "rm", "-fa"), ("volume", "rm", "-fa"), ("secret", "rm", "-a")):
            self(*words, check=False)

    def stop(self) -> None:
        """Ends all that runs in it."""
        self.clean()
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        self._holder.wait(20)
        assert self._holder.stdout is not None
        self._holder.stdout.close()

    def enter(
        self, *command: str, text: str = "", seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """A command in the namespaces."""
        return subprocess.run(
            ["nsenter", "-m", "-n", "-p", "-t", self._pid, *command],
            input=text,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def __call__(self, *words: str, text: str = "", check: bool = True) -> str:
        """A podman command's output."""
        done = self.enter("podman", *words, text=text)
        assert not check or done.returncode == 0, f"podman {' '.join(words)}: {done.stderr}"
        return done.stdout

    def load(self, *images: str) -> None:
        """Copies images from the private Docker Engine."""
        save = subprocess.Popen(
            ["docker", "save", *images],
            env=os.environ | {"DOCKER_HOST": ENGINE_HOST},
            stdout=subprocess.PIPE,
        )
        entering = ["nsenter", "-m", "-n", "-p", "-t", self._pid, "podman", "load"]
        subprocess.run(
            entering,
            stdin=save.stdout,
            env=ENVIRONMENT,
            check=True,
            capture_output=True,
            timeout=300,
        )
        assert save.wait() == 0
        assert save.stdout is not None
        save.stdout.close()

    def play(self, documents: list[dict[str, Any]], alias: str, *options: str) -> None:
        """`podman kube play`, which replaces what it played before."""
        network = ("--network", f"gangway:alias={alias}")
        text = yaml.safe_dump_all(documents)
        self("kube", "play", "--replace", *network, *options, "-", text=text)

    def report(self) -> str:
        """What a failed test is told."""
        names = self("ps", "-a", "--format", "{{.Names}}").split()
        done = [self.enter("podman", "logs", "--tail", "15", name) for name in names]
        return "\n".join([self("ps", "-a"), *(each.stdout + each.stderr for each in done)])
