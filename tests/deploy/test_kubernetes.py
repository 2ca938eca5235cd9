"""Manifests for a cluster: built by kustomize, held to the schemas of five versions."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

from infrastructure.cli.commands.render import write
from infrastructure.config import secrets
from infrastructure.errors import UsageError
from infrastructure.release_files import REQUESTS_FOLDER
from infrastructure.render.kubernetes import build_command, manifests
from infrastructure.render.model import TEMPLATES
from tests.deploy.conftest import SECRET_VALUES

if TYPE_CHECKING:
    from collections.abc import Callable

    from infrastructure.config import Target

VERSIONS = ("1.33", "1.34", "1.35", "1.36", "1.37")
TARGETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "live": {
        "profile": "small",
        "gateway": {
            "mode": "live",
            "image": "ghcr.io/gnzsnz/ib-gateway@sha256:" + "a" * 64,
            "environment": {"NOTE": "$(HOME), $$(HOME) and $X"},
        },
        "caddy": {"domain": "trade.example.org"},
        "alerts": {"urls": [{"stored": "alerts-address"}]},
    },
    "both": {
        "profile": "standard",
        "gateway": {"mode": "both", "paper_username": "bob"},
    },
    "other-controller": {
        "gateway": {
            "image": "registry.example:5000/ibg-controller:1",
            "controller": "ibg-controller",
        }
    },
}
VALUES = {**SECRET_VALUES, "alert-url-1": b"ntfy://topic-nobody-knows"}

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="needs kubectl (its kustomize works without a cluster)"
)


def values(target: Target) -> dict[str, bytes]:
    return {name: VALUES[name] for name in secrets.needed(target)}


def built(target: Target, folder: Path, **asked: Any) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send."""
    write(manifests(target, values(target), **asked), folder, with_secrets=True)
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder / "overlays" / target.name)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The document of this kind whose name begins so (generated names have a hash)."""
    found = [
        each
        for each in documents
        if each["kind"] == kind and each["metadata"]["name"].startswith(name)
    ]
    assert len(found) == 1, found
    return found[0]


def mounted(deployment: dict[str, Any]) -> list[dict[str, Any]]:
    """The volumes of a Deployment's pod that are claims."""
    volumes: list[dict[str, Any]] = deployment["template"]["spec"]["volumes"]
    return [each for each in volumes if "persistentVolumeClaim" in each]


def pod(documents: list[dict[str, Any]], name: str) -> dict[str, Any]:
    found: dict[str, Any] = of(documents, "Deployment", name)["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("name", TARGETS)
def test_five_versions_take_every_document(
    make: Callable[..., Target], tmp_path: Path, name: str
) -> None:
    documents = built(make(**TARGETS[name]), tmp_path / "out")
    assert len(documents) >= 15
    for document in documents:
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_find_a_misspelt_key(make: Callable[..., Target], tmp_path: Path) -> None:
    document = of(built(make(), tmp_path / "out"), "Deployment", "gateway")
    document["spec"]["template"]["spec"]["terminationGracePeriodSecond"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", TARGETS)
def test_never_two_sessions_and_nobody_is_root(
    make: Callable[..., Target], tmp_path: Path, name: str
) -> None:
    documents = built(make(**TARGETS[name]), tmp_path / "out")
    for service in ("gateway", "bridge"):
        deployment = of(documents, "Deployment", service)["spec"]
        assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
        alone = {"gateway": "gateway-settings", "bridge": "bridge-journal"}[service]
        claim = of(documents, "PersistentVolumeClaim", alone)["spec"]
        assert claim["accessModes"] == ["ReadWriteOncePod"]  # Recreate is for rollouts only
        claims = [v["persistentVolumeClaim"]["claimName"] for v in mounted(deployment)]
        assert alone in claims
        spec = deployment["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        (container,) = spec["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        secret = next(v["secret"] for v in spec["volumes"] if v["name"] == "secrets")
        assert secret["defaultMode"] == 0o440
        assert spec["securityContext"]["fsGroup"] == 1000
    labels = of(documents, "Namespace", "gangway-prod")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_what_the_settings_say_arrives(make: Callable[..., Target], tmp_path: Path) -> None:
    documents = built(make(**TARGETS["live"]), tmp_path / "live")
    (gateway,) = pod(documents, "gateway")["containers"]
    assert gateway["image"] == TARGETS["live"]["gateway"]["image"]
    assert gateway["startupProbe"]["exec"]["command"][-1] == "4001"
    known = {each["name"]: each for each in gateway["env"]}
    assert known["TRADING_MODE"]["value"] == "live"
    assert known["NOTE"]["value"] == "$$(HOME), $$$$(HOME) and $$X"
    assert known["TWS_USERID"]["valueFrom"]["secretKeyRef"]["key"] == "tws-username"
    assert of(documents, "Ingress", "bridge")["spec"]["rules"][0]["host"] == "trade.example.org"
    assert of(documents, "NetworkPolicy", "bridge-outward")
    documents = built(make(**TARGETS["other-controller"]), tmp_path / "other")
    assert pod(documents, "gateway")["terminationGracePeriodSeconds"] == 90
    (gateway,) = pod(documents, "gateway")["containers"]
    assert gateway["image"] == "registry.example:5000/ibg-controller:1"
    documents = built(make(**TARGETS["both"]), tmp_path / "both")
    (gateway,) = pod(documents, "gateway")["containers"]
    assert gateway["startupProbe"]["exec"]["command"][-2:] == ["4001", "4002"]
    assert of(documents, "Secret", "gateway-secrets")["data"].keys() == {
        *("tws-password", "tws-password-paper", "tws-username", "tws-username-paper"),
    }


@pytest.mark.parametrize(
    ("sections", "address", "ports"),
    [
        ({"alerts": {"urls": [{"stored": "a"}]}}, b"tgram://token/chat", [443, 465, 587]),
        ({"alerts": {"urls": [{"stored": "a"}]}}, b"jsons://me:8443/x", [443, 465, 587, 8443]),
        ({"alerts": {"urls": [{"stored": "a"}]}}, b"ntfy://mine/topic", [80, 443, 465, 587]),
        ({"alerts": {"urls": [{"stored": "a"}]}}, b"mailto://a:b@mail:25", [25, 443, 465, 587]),
        ({"bridge": {"flex": {"query": "123"}}}, b"", [443]),
        ({"portal": {"url": "http://portal.example.org"}}, b"", [80]),
        ({"portal": {"url": "https://portal.example.org"}}, b"", [443]),
        ({"portal": {"url": "https://portal.example.org:5000"}}, b"", [5000]),
    ],
)
def test_the_bridge_reaches_what_it_is_set_to(
    make: Callable[..., Target], sections: dict[str, Any], address: bytes, ports: list[int]
) -> None:
    target = make(**sections)
    given = {name: VALUES.get(name, b"x") for name in secrets.needed(target)}
    made = manifests(target, given | ({"alert-url-1": address} if address else {}))
    (file,) = [each for each in made if each.path.endswith("/egress.yaml")]
    spec = yaml.safe_load(file.content)["spec"]
    assert [each["port"] for each in spec["egress"][0]["ports"]] == ports
    (overlay,) = [each for each in made if each.path == "overlays/prod/kustomization.yaml"]
    assert "egress.yaml" in yaml.safe_load(overlay.content)["resources"]


def test_what_the_bridge_is_told_of_is_mounted(make: Callable[..., Target], tmp_path: Path) -> None:
    """What a variable names and no volume gives cannot be made: the file system is read-only."""
    documents = built(make(**TARGETS["both"]), tmp_path / "out")
    for service, writes in (("bridge", "BRIDGE_GATEWAY_REQUESTS"), ("gateway", "")):
        (container,) = pod(documents, service)["containers"]
        mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
        claims = {
            each["name"]: each["persistentVolumeClaim"]["claimName"]
            for each in pod(documents, service)["volumes"]
            if "persistentVolumeClaim" in each
        }
        known = {each["name"]: each.get("value") or "" for each in container["env"]}
        for name, value in known.items():
            if service == "bridge" and value.startswith("/"):
                assert any(Path(value).is_relative_to(mount) for mount in mounts), name
        folder = known.get(writes, REQUESTS_FOLDER)
        assert claims[mounts[folder]["name"]] == "gateway-requests"
        assert bool(mounts[folder].get("readOnly")) is (service == "gateway")


def test_a_route_instead_of_an_ingress(make: Callable[..., Target], tmp_path: Path) -> None:
    target = make(caddy={"domain": "trade.example.org"})
    route = of(built(target, tmp_path / "out", expose="route"), "HTTPRoute", "bridge")
    assert route["spec"]["hostnames"] == ["trade.example.org"]
    assert all(each["kind"] != "Ingress" for each in built(make(), tmp_path / "none"))
    with pytest.raises(UsageError, match="needs a name"):
        manifests(make(), None, expose="ingress")


def test_a_change_restarts_only_who_reads_it(make: Callable[..., Target], tmp_path: Path) -> None:
    def templates(folder: str, **sections: Any) -> dict[str, Any]:
        documents = built(make(**sections), tmp_path / folder)
        return {name: pod(documents, name) for name in ("gateway", "bridge")}

    before = templates("before")
    limits = templates("limits", trading={"max_quantity": 7})
    assert limits["gateway"] == before["gateway"]
    assert limits["bridge"] != before["bridge"]
    heap = templates("heap", gateway={"jvm": {"heap": 300}})
    assert heap["bridge"] == before["bridge"]
    assert heap["gateway"] != before["gateway"]


def test_secrets_are_in_files_of_their_own_alone(
    make: Callable[..., Target], tmp_path: Path
) -> None:
    target, out = make(**TARGETS["live"]), tmp_path / "out"
    write(manifests(target, values(target)), out, with_secrets=True)
    secret = [value for name, value in VALUES.items() if name in values(target)]
    for file in out.rglob("*"):
        if not file.is_file() or "image" in file.parts:
            continue
        if "secrets" in file.parts:
            assert stat.S_IMODE(file.stat().st_mode) == 0o400
        else:
            assert not any(value in file.read_bytes() for value in secret), file
            assert b"alice" not in file.read_bytes(), file
    assert (out / "overlays" / "prod" / ".gitignore").read_text() == "secrets/\n"
    bare = tmp_path / "bare"
    write(manifests(target, None), bare, with_secrets=False)
    assert not (bare / "overlays" / "prod" / "secrets").exists()
    overlay = yaml.safe_load((bare / "overlays" / "prod" / "kustomization.yaml").read_text())
    assert "secretGenerator" not in overlay


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"profile": "standard", "portal": {"enabled": True, "username": "bob"}},
            "Client Portal",
        ),
        ({"gateway": {"publish_api": "127.0.0.1:4002"}}, "publish_api"),
    ],
)
def test_what_a_cluster_does_otherwise_is_refused(
    make: Callable[..., Target], sections: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        manifests(make(**sections), None)
    assert refused.value.place is not None


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ("", 0),
        ("700 launch password\n650 attempt 1\n640 push\n", 0),
        ("9000 login\n", 1),
        ("9000 login\n8000 opened Some window\n", 1),
        ("300 login\n", 0),
        ("9000 login\n900 restarting\n", 0),
        ("9000 login\n900 exit 1\n", 0),
        ("9000 login\n900 held bad-credentials\n", 0),
        ("9000 login\n900 what-a-later-version-says\n", 0),
        ("9000 login\n900 requested RECONNECTDATA\n780 not-taken RESTART\n", 1),
        ("9000 login\n900 requested RECONNECTDATA\n300 requested RESTART\n", 0),
    ],
)
def test_only_a_gateway_that_hung_after_its_login_is_ended(
    tmp_path: Path, events: str, code: int
) -> None:
    """No API answers here: what the events say decides. Times are seconds ago."""
    for name in ("liveness.sh",):
        shutil.copy(TEMPLATES / "kubernetes" / name, tmp_path / name)
    (tmp_path / "healthcheck.sh").write_text("exit 1\n")
    lines = (line.partition(" ") for line in events.splitlines())
    text = "".join(f"{int(time.time()) - int(ago)} {rest}\n" for ago, _, rest in lines)
    (tmp_path / "login-paper").write_text(text)
    done = subprocess.run(
        ["bash", str(tmp_path / "liveness.sh"), "4002"],
        env={"PATH": os.environ["PATH"], "GANGWAY_STATE_PATH": str(tmp_path)},
        check=False,
        capture_output=True,
    )
    assert done.returncode == code, done
    (tmp_path / "healthcheck.sh").write_text("exit 0\n")
    again = subprocess.run(
        ["bash", str(tmp_path / "liveness.sh"), "4002"],
        check=False,
        env={"PATH": os.environ["PATH"], "GANGWAY_STATE_PATH": str(tmp_path)},
    )
    assert again.returncode == 0


@pytest.mark.parametrize(("open_ports", "code"), [("", 1), ("4002", 0), ("4001 4002", 0)])
def test_one_of_two_sessions_has_started_the_gateway(
    tmp_path: Path, open_ports: str, code: int
) -> None:
    shutil.copy(TEMPLATES / "kubernetes" / "started.sh", tmp_path / "started.sh")
    (tmp_path / "healthcheck.sh").write_text(f'[[ " {open_ports} " == *" $1 "* ]]\n')
    done = subprocess.run(
        ["bash", str(tmp_path / "started.sh"), "4001", "4002"],
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == code


def test_a_session_that_is_not_logged_in_does_not_hide_the_other(
    make: Callable[..., Target], tmp_path: Path
) -> None:
    documents = built(make(**TARGETS["both"]), tmp_path / "out")
    assert of(documents, "Service", "gateway")["spec"]["publishNotReadyAddresses"] is True


def test_the_image_is_built_as_the_manifests_name_it(
    make: Callable[..., Target], tmp_path: Path
) -> None:
    target = make(bridge={"library": "ib_insync", "base_image": "registry.example/python:3.13"})
    (bridge,) = pod(built(target, tmp_path / "own"), "bridge")["containers"]
    command = build_command(target, "out/overlays/prod", None)
    assert command[command.index("--tag") + 1] == bridge["image"]
    assert {"CLIENT_LIBRARY=ib_insync", "BASE_IMAGE=registry.example/python:3.13"} <= set(command)
    assert bridge["imagePullPolicy"] == "Never"  # on a registry the name may be anybody's
    name = "registry.example/bridge:1"
    (bridge,) = pod(built(target, tmp_path / "named", bridge_image=name), "bridge")["containers"]
    assert (bridge["image"], bridge["imagePullPolicy"]) == (name, "IfNotPresent")
    assert name in build_command(target, "out", name)
    assert build_command(target, "out", "registry.example/bridge@sha256:" + "a" * 64) == []


def test_the_proof_of_the_domain_is_let_through_to(
    make: Callable[..., Target], tmp_path: Path
) -> None:
    documents = built(make(**TARGETS["live"]), tmp_path / "out")
    policy = of(documents, "NetworkPolicy", "certificate")["spec"]
    assert policy["podSelector"]["matchLabels"] == {"acme.cert-manager.io/http01-solver": "true"}
    (rule,) = policy["ingress"]
    assert [each["port"] for each in rule["ports"]] == [8089]


def test_the_command_renders_every_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from infrastructure.cli import main

    monkeypatch.chdir(tmp_path)
    one = {"host": "me@203.0.113.7", "gateway": {"username": "alice"}}
    (tmp_path / "stack.yaml").write_text(yaml.safe_dump({"targets": {"a": one, "b": one}}))
    with pytest.raises(SystemExit) as ended:
        main(["render", "--format", "kubernetes", "--out", "cluster", "--no-secrets"])
    assert ended.value.code == 0
    assert sorted(p.name for p in (tmp_path / "cluster" / "overlays").iterdir()) == ["a", "b"]
