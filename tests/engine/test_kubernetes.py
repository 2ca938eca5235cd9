"""The manifests for a cluster, played by Podman on the stand-in: up, kill, update.

Two things differ from a cluster. Podman has no fsGroup, so the pods get root's group, which the
Secrets' files belong to; and it has no Services, so each pod gets its Service's name as an alias.
"""

import copy
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infrastructure.cli.commands.render import write
from infrastructure.config import Target, load
from infrastructure.render.kubernetes import manifests
from tests.engine.parts.engine import GATEWAY_IMAGE, docker
from tests.engine.parts.podman import Podman, podman_missing

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(podman_missing() is not None, reason=podman_missing() or ""),
]
BRIDGE_IMAGE = "localhost/bridge:played"
KEY = "a-first-key-of-the-tests"
SECRETS = {"tws-username": b"demo", "tws-password": b"correct", "bridge-admin-key": KEY.encode()}
PLAYED = {"ConfigMap", "Secret", "PersistentVolumeClaim", "Deployment"}
ORDER = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "LMT", "limitPrice": 1.0}
SHARED = {"gateway-state", "gateway-requests"}
CONTAINER = {name: f"{name}-pod-{name}" for name in ("gateway", "bridge")}


@pytest.fixture
def podman() -> Iterator[Podman]:
    running = Podman()
    yield running
    running.stop()


class Cluster:
    """What `kubectl apply -k` would keep running."""

    def __init__(self, folder: Path, podman: Podman) -> None:
        self._folder, self._podman, self._renders = folder, podman, 0
        self.played: dict[str, list[dict[str, Any]]] = {}

    def apply(self, **sections: Any) -> set[str]:
        """Renders, builds, and replaces what has changed; the names of it."""
        documents = self._built(self.target(**sections))
        changed = set()
        for service in ("gateway", "bridge"):
            wanted = [each for each in documents if each["metadata"]["name"].startswith(service)]
            if service == "bridge":
                wanted += [d for d in documents if d["metadata"]["name"] in SHARED]
            if self.played.get(service) != wanted:
                self.played[service] = copy.deepcopy(wanted)
                publish = ["--publish", "127.0.0.1:8080:8080"] if service == "bridge" else []
                # a kubelet ends the containers before their network; Podman's --replace does not
                self._podman("stop", "--ignore", CONTAINER[service], check=False)
                self._podman.play(wanted, service, *publish)
                changed.add(service)
        return changed

    def target(self, **sections: Any) -> Target:
        values = {"host": "me@203.0.113.7", "gateway": {"username": "demo"}, **sections}
        file = self._folder / "stack.yaml"
        file.write_text(yaml.safe_dump({"targets": {"prod": values}}))
        return load(file)

    def _built(self, target: Target) -> list[dict[str, Any]]:
        self._renders += 1
        out = self._folder / f"render-{self._renders}"
        write(manifests(target, SECRETS, bridge_image=BRIDGE_IMAGE), out, with_secrets=True)
        text = subprocess.run(
            ["kubectl", "kustomize", str(out / "overlays" / "prod")],
            env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        found = [each for each in yaml.safe_load_all(text) if each["kind"] in PLAYED]
        for each in found:
            each["metadata"].pop("namespace", None)
            if each["kind"] == "Deployment":
                each["spec"]["template"]["spec"]["securityContext"]["supplementalGroups"] = [0]
        return found

    def ask(self, method: str, path: str, body: Any = None, *headers: str) -> tuple[int, Any]:
        """A request to the bridge; status 0: no answer."""
        words = [
            *("curl", "-s", "-m", "10", "-X", method, "-w", "\n%{http_code}"),
            *("-H", f"X-API-KEY: {KEY}", "-H", "Content-Type: application/json"),
            *(part for header in headers for part in ("-H", header)),
            *(("--data", json.dumps(body)) if body is not None else ()),
            f"http://127.0.0.1:8080{path}",
        ]
        text, _, status = self._podman.enter(*words).stdout.rpartition("\n")
        return int(status or 0), json.loads(text) if text else None

    def until(self, check: Callable[[], Any], seconds: float = 120) -> None:
        """Waits for something to be so."""
        deadline = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < deadline, self._podman.report()
            time.sleep(0.5)

    def state(self) -> str:
        status, health = self.ask("GET", "/health")
        return str(health["state"]) if status == 200 else ""

    def kill(self, service: str) -> None:
        """Its process dies; Podman's own kill would count as a wish to have it stopped."""
        pid = self._podman("inspect", "--format", "{{.State.Pid}}", CONTAINER[service]).strip()
        assert self._podman.enter("sh", "-c", f"kill -KILL {pid}").returncode == 0

    def started(self, service: str) -> str:
        return self._podman(
            "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", CONTAINER[service]
        )

    def lives(self, service: str) -> list[str]:
        """What happened to the service's containers, in order: start, died, start …"""
        name = CONTAINER[service]
        lines = self._podman(
            *("events", "--stream=false", "--filter", f"container={name}"),
            *("--format", "{{.Status}}"),
        ).split()
        return [line for line in lines if line in {"start", "died"}]


def test_up_kill_update_and_the_journal_stays(tmp_path: Path, podman: Podman) -> None:
    cluster = Cluster(tmp_path, podman)
    image = tmp_path / "image"
    context = manifests(cluster.target(), None)
    write([each for each in context if "/image/" in each.path], image, with_secrets=False)
    folder = str(image / "overlays" / "prod" / "image")
    docker("build", "-q", "-t", BRIDGE_IMAGE, "-f", f"{folder}/bridge/Dockerfile", folder)
    podman.load(GATEWAY_IMAGE, BRIDGE_IMAGE)
    podman("network", "create", "--ignore", "gangway")

    # up
    assert cluster.apply() == {"gateway", "bridge"}
    cluster.until(lambda: cluster.state() == "ready", 180)
    # nothing runs them without systemd
    for probe in ("healthcheck.sh", "liveness.sh", "started.sh"):
        podman("exec", CONTAINER["gateway"], "bash", f"/home/ibgateway/gangway/{probe}", "4002")
    for service in CONTAINER.values():
        podman("healthcheck", "run", service)
    key = "Idempotency-Key: one-decision"
    status, order = cluster.ask("POST", "/order", ORDER, key)
    assert status == 201, order

    # a bridge that is killed is started again, and knows what it did
    cluster.kill("bridge")
    cluster.until(lambda: cluster.lives("bridge") == ["start", "died", "start"])
    cluster.until(lambda: cluster.state() == "ready")
    status, again = cluster.ask("POST", "/order", ORDER, key)
    assert (status, again["orderId"]) == (201, order["orderId"])

    # so is a gateway, whose attempts stay on record
    cluster.kill("gateway")
    cluster.until(lambda: cluster.lives("gateway") == ["start", "died", "start"])
    cluster.until(lambda: cluster.state() == "ready", 180)
    events = podman("exec", CONTAINER["gateway"], "cat", "/home/ibgateway/state/login-paper")
    assert events.count(" launch ") == 2

    # an update of limits leaves the gateway alone
    before = cluster.started("gateway")
    assert cluster.apply(trading={"max_quantity": 7}) == {"bridge"}
    cluster.until(lambda: cluster.state() == "ready")
    assert cluster.started("gateway") == before
    status, refused = cluster.ask("POST", "/order", {**ORDER, "quantity": 8}, "Idempotency-Key: b")
    assert (status, refused["code"]) == (422, "order-refused")

    # an update of the gateway: the old one is gone before the new one begins
    assert cluster.apply(
        trading={"max_quantity": 7}, gateway={"username": "demo", "jvm": {"heap": 300}}
    ) == {"gateway"}
    cluster.until(lambda: cluster.state() == "ready", 180)
    lives = cluster.lives("gateway")
    assert lives == ["start", "died", "start", "died", "start"]
    flags = "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'"
    assert "-Xmx300m" in podman("exec", CONTAINER["gateway"], "bash", "-c", flags)

    # and the journal has it all
    status, found = cluster.ask("GET", f"/order/{order['orderId']}")
    assert (status, found["orderRef"]) == (200, order["orderRef"])
