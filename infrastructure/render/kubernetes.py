"""Manifests for an existing Kubernetes cluster, from the same configuration.

    base/                      what every target has: templates/kubernetes
    overlays/<target>/         kustomization, patches, files of ConfigMaps and Secrets, and below
                               image/ what the bridge's image is built of

ConfigMaps and Secrets are made by kustomize from files, with the hash of their content in their
names: a changed file restarts the service that reads it, and no other. Pure, as all of rendering.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from infrastructure.config.secrets import USERNAME
from infrastructure.errors import UsageError
from infrastructure.release_files import HOOKS_FOLDER
from infrastructure.render import bridge, gateway
from infrastructure.render.compose import text
from infrastructure.render.layout import BRIDGE_PORT, compose_layout
from infrastructure.render.model import LEFT_OUT, TEMPLATES, RenderedFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from infrastructure.config.target import Target
    from infrastructure.render.layout import Layout

Exposure = Literal["ingress", "route", "none"]

FOLDER: Final = TEMPLATES / "kubernetes"
BASE: Final = ("kustomization.yaml", "gateway.yaml", "bridge.yaml", "network.yaml")
PROBES: Final = ("liveness.sh", "started.sh")
PROXIES: Final = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,fc00::/7"
"""Whose forwarded addresses the bridge believes. Pods have private addresses, and of these only the
cluster's front is let through by the NetworkPolicy."""
DAY_SECONDS: Final = 86_400
_APPS: Final = {"apiVersion": "apps/v1", "kind": "Deployment"}


def manifests(
    target: Target,
    secrets: Mapping[str, bytes] | None,
    *,
    expose: Exposure | None = None,
    bridge_image: str | None = None,
) -> list[RenderedFile]:
    """Base and overlay. Without `secrets` the overlay expects the two Secrets in the namespace.

    Raises:
        UsageError: the target has something that Kubernetes does otherwise.
    """
    _require_fitting(target)
    values = secrets or {}
    context = bridge.sources(target)
    image = bridge_image or bridge.image(target, context)
    known = dict.fromkeys(_secret_names(target), LEFT_OUT) | dict(values)
    read = [*gateway.files(target, known), *bridge.files(target, known)]
    exposure = expose or ("ingress" if target.stack.caddy.domain else "none")
    overlay = {
        "kustomization.yaml": _kustomization(target, image, read, exposure, secrets),
        "namespace.yaml": _namespace(target),
        "gateway.yaml": _gateway(target, gateway.username(target, known)),
        "bridge.yaml": _bridge(target, image, elsewhere=bridge_image is not None),
        **_front(target, exposure),
        **_egress(target, values),
    }
    root = f"overlays/{target.name}"
    plain = [RenderedFile(f"base/{name}", (FOLDER / name).read_bytes()) for name in BASE]
    plain += [RenderedFile(f"{root}/{name}", text(v).encode()) for name, v in overlay.items()]
    plain += [RenderedFile(f"{root}/files/{n}", (FOLDER / n).read_bytes()) for n in PROBES]
    plain.append(RenderedFile(f"{root}/.gitignore", b"secrets/\n"))
    plain += [
        RenderedFile(f"{root}/{_folder(file)}/{_flat(file)}", file.content)
        for file in read
        if not file.secret
    ]
    plain += [dataclasses.replace(file, path=f"{root}/{file.path}") for file in context]
    return plain + (_secret_files(target, root, read, known) if secrets is not None else [])


def build_command(target: Target, overlay: str, bridge_image: str | None) -> list[str]:
    """What builds the bridge's image under the name that the manifests have; of a digest nothing.

    `overlay` is the folder of the target's overlay.
    """
    image = bridge_image or bridge.image(target, bridge.sources(target))
    if "@" in image:
        return []
    told = bridge.build_arguments(target).items()
    words = [word for name, value in told for word in ("--build-arg", f"{name}={value}")]
    context = f"{overlay}/image"
    return [
        *("docker", "build", "--tag", image, *words),
        *("--file", f"{context}/bridge/Dockerfile", context),
    ]


def _require_fitting(target: Target) -> None:
    stack = target.stack
    if stack.runtime != "compose":
        raise UsageError("the sandbox has no manifests", hint="./deploy.py init writes a target")
    if stack.portal.enabled:
        raise UsageError(
            "the Client Portal gateway is not rendered for Kubernetes",
            target.place("portal", "enabled"),
            "run it yourself and set portal.url",
            code="not-on-kubernetes",
        )
    if stack.workers:
        name = next(iter(stack.workers))
        raise UsageError(
            f"worker {name} is not rendered for Kubernetes: its key is made by a deploy on a host",
            target.place("workers", name),
            "leave workers out, and write a Deployment of your own with a key of apikey create",
            code="not-on-kubernetes",
        )
    if stack.gateway.publish_api:
        raise UsageError(
            "gateway.publish_api is for a host; in a cluster only the bridge reaches the gateway",
            target.place("gateway", "publish_api"),
            "leave it out, and add a NetworkPolicy and a Service of your own",
            code="not-on-kubernetes",
        )


def _layout(target: Target) -> Layout:
    """Inside a namespace, services have the same names as in the Compose project."""
    inside = compose_layout(target)
    return dataclasses.replace(inside, proxies=PROXIES, tls_address="", bridge_identity=None)


def _kustomization(
    target: Target,
    image: str,
    read: Iterable[RenderedFile],
    expose: Exposure,
    secrets: Mapping[str, bytes] | None,
) -> dict[str, Any]:
    files = list(read)
    document: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": f"gangway-{target.name}",
        "labels": [{"pairs": {"app.kubernetes.io/part-of": "gangway"}}],
        "resources": [
            *("../../base", "namespace.yaml"),
            *_front(target, expose),
            *_egress(target, secrets or {}),
        ],
        "images": [
            {"name": "gateway", **_image(target.stack.gateway.image)},
            {"name": "bridge", **_image(image)},
        ],
        "patches": [{"path": "gateway.yaml"}, {"path": "bridge.yaml"}],
        "configMapGenerator": [
            _generator("gateway-files", [*_of(files, "gateway", "files"), *PROBES], "files"),
            _generator("gateway-start", _of(files, "gateway", "start"), "start"),
            _generator("bridge-files", _of(files, "bridge", "files"), "files"),
        ],
    }
    if secrets is not None:
        names = [file.path.rpartition("/")[2] for file in files if file.secret]
        own = [name for name in names if name in gateway.secret_names(target)]
        own += [USERNAME, *([f"{USERNAME}-paper"] if _paper_user(target) else [])]
        document["secretGenerator"] = [
            _generator("gateway-secrets", own, "secrets/gateway"),
            _generator("bridge-secrets", [*bridge.secret_names(target)], "secrets/bridge"),
        ]
    return document


def _generator(name: str, files: Iterable[str], folder: str) -> dict[str, Any]:
    return {"name": name, "files": [f"{folder}/{file}" for file in sorted(files)]}


def _of(files: Iterable[RenderedFile], service: str, folder: str) -> list[str]:
    return [
        _flat(file)
        for file in files
        if service in file.services and not file.secret and _folder(file) == folder
    ]


def _folder(file: RenderedFile) -> str:
    """Start hooks have a ConfigMap and a folder of their own: the image runs all that is in it."""
    return "start" if "/start/" in file.path else "files"


def _flat(file: RenderedFile) -> str:
    """A file's key in its ConfigMap, which knows no folders."""
    return file.path.rpartition("/")[2]


def _image(name: str) -> dict[str, str]:
    """As kustomize splits it; a digest wins over a tag."""
    rest, _, digest = name.partition("@")
    head, colon, tag = rest.rpartition(":")
    tagged = bool(colon) and "/" not in tag
    found = {"newName": head if tagged else rest}
    if digest:
        return {**found, "digest": digest}
    return {**found, "newTag": tag if tagged else "latest"}


def pinned(target: Target) -> bool:
    """Whether the gateway's image is named by its digest: a tag can be moved."""
    return "@sha256:" in target.stack.gateway.image


def _namespace(target: Target) -> dict[str, Any]:
    levels = {f"pod-security.kubernetes.io/{level}": "restricted" for level in ("enforce", "warn")}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": f"gangway-{target.name}", "labels": levels},
    }


def _gateway(target: Target, user: str) -> dict[str, Any]:
    composed = gateway.service(target, user)
    test, ports = composed["healthcheck"]["test"], composed["healthcheck"]["test"][3:]
    seconds = int(composed["healthcheck"]["timeout"].rstrip("s"))
    handshake = {"exec": {"command": test[1:]}, "timeoutSeconds": seconds, "periodSeconds": 15}
    alive = ["bash", f"{HOOKS_FOLDER}/liveness.sh", *ports]
    either = ["bash", f"{HOOKS_FOLDER}/started.sh", *ports]
    started = test[1:] if len(ports) == 1 else either
    container = {
        "name": "gateway",
        "env": _gateway_environment(target, composed["environment"]),
        "resources": _resources(target, "gateway", "250m"),
        # until somebody has approved the login: a restart would only ask anew
        "startupProbe": {
            **handshake,
            "exec": {"command": started},
            "failureThreshold": DAY_SECONDS // 15,
        },
        "readinessProbe": {**handshake, "failureThreshold": 2},
        "livenessProbe": {
            "exec": {"command": alive},
            "timeoutSeconds": seconds + 5,
            "periodSeconds": 60,
            "failureThreshold": 10,
        },
    }
    grace = int(composed["stop_grace_period"].rstrip("s"))
    return _patch("gateway", container, terminationGracePeriodSeconds=grace)


def _gateway_environment(target: Target, values: Mapping[str, str]) -> list[dict[str, Any]]:
    """User names come from the Secret: the image has no file for them."""
    stored = {"TWS_USERID": USERNAME}
    if _paper_user(target):
        stored["TWS_USERID_PAPER"] = f"{USERNAME}-paper"
    own = {"START_SCRIPTS": "gangway-start", "GANGWAY_FILES": HOOKS_FOLDER}
    found = _environment({n: v for n, v in {**values, **own}.items() if n not in stored})
    for name, key in stored.items():
        source = {"secretKeyRef": {"name": "gateway-secrets", "key": key}}
        found.append({"name": name, "valueFrom": source})
    return found


def _paper_user(target: Target) -> str | None:
    return target.stack.gateway.paper_username if target.stack.gateway.mode == "both" else None


def _environment(values: Mapping[str, str]) -> list[dict[str, Any]]:
    """`$(NAME)` is a reference there; a `$` that is doubled is one, and never begins one."""
    return [{"name": name, "value": value.replace("$", "$$")} for name, value in values.items()]


def _bridge(target: Target, image: str, *, elsewhere: bool) -> dict[str, Any]:
    """`elsewhere`: the image is in a registry.

    Else it is only on the nodes, and never asked for where its name may be somebody else's.
    """
    composed = bridge.service(target, image)
    ping = {"exec": {"command": composed["healthcheck"]["test"][1:]}, "timeoutSeconds": 5}
    values = bridge.environment(target, _layout(target))
    container = {
        "name": "bridge",
        "imagePullPolicy": "IfNotPresent" if elsewhere else "Never",
        "env": _environment({name: value for name, value in values.items() if value}),
        "resources": _resources(target, "bridge", "50m"),
        "startupProbe": {**ping, "periodSeconds": 5, "failureThreshold": 24},
        "readinessProbe": {**ping, "periodSeconds": 15, "failureThreshold": 2},
        "livenessProbe": {**ping, "periodSeconds": 30, "failureThreshold": 4},
    }
    return _patch("bridge", container)


def _patch(name: str, container: dict[str, Any], **pod: Any) -> dict[str, Any]:
    spec = {**pod, "containers": [container]}
    return {**_APPS, "metadata": {"name": name}, "spec": {"template": {"spec": spec}}}


def _resources(target: Target, name: str, cpu: str) -> dict[str, Any]:
    """A cluster's nodes seldom swap: what the profile leaves to swap is memory there."""
    memory, with_swap = target.stack.budget(name)
    return {
        "requests": {"cpu": cpu, "memory": f"{memory}Mi"},
        "limits": {"memory": f"{with_swap}Mi"},
    }


def _front(target: Target, expose: Exposure) -> dict[str, dict[str, Any]]:
    """What leads to the bridge from outside the cluster, by its file's name."""
    domain = target.stack.caddy.domain
    if expose == "none":
        return {}
    if domain is None:
        raise UsageError(
            "an Ingress or a route needs a name",
            target.place("caddy"),
            "set caddy.domain, or --expose none",
            code="not-on-kubernetes",
        )
    backend = {"name": "bridge", "port": {"number": BRIDGE_PORT}}
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": backend}}
    if expose == "ingress":
        spec: dict[str, Any] = {
            "rules": [{"host": domain, "http": {"paths": [path]}}],
            "tls": [{"hosts": [domain], "secretName": "bridge-tls"}],
        }
        kind = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress"}
        return {"ingress.yaml": {**kind, "metadata": {"name": "bridge"}, "spec": spec}}
    spec = {
        "parentRefs": [{"name": "public"}],
        "hostnames": [domain],
        "rules": [{"backendRefs": [{"name": "bridge", "port": BRIDGE_PORT}]}],
    }
    kind = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"}
    return {"route.yaml": {**kind, "metadata": {"name": "bridge"}, "spec": spec}}


ALERT_PORTS: Final = frozenset((443, 465, 587))
PLAIN: Final = frozenset(("http", "json", "form", "xml", "ntfy", "gotify", "apprise", "mmost"))
"""Schemes of Apprise that mean a server of one's own without TLS, on port 80 unless said."""


def _egress(target: Target, secrets: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """What the bridge reaches outside beside the gateway: alerts, Flex queries, an own portal."""
    stack, ports = target.stack, set[int]()
    if stack.alerts.urls:
        ports |= ALERT_PORTS
        for name, value in secrets.items():
            if name.startswith("alert-url-"):
                ports |= _ports(value.decode(errors="replace").strip())
    if stack.portal.url:
        ports |= _ports(stack.portal.url) or {443}
    if stack.bridge.flex:
        ports.add(443)
    if not ports:
        return {}
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    spec = {
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "bridge"}},
        "policyTypes": ["Egress"],
        "egress": [{"ports": [{"protocol": "TCP", "port": port} for port in sorted(ports)]}],
    }
    return {"egress.yaml": {**kind, "metadata": {"name": "bridge-outward"}, "spec": spec}}


def _ports(address: str) -> set[int]:
    """The port that an address names or means; none when it is the scheme's own."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return set()
    if port is not None:
        return {port}
    return {80} if parts.scheme in PLAIN else set()


def _secret_names(target: Target) -> list[str]:
    from infrastructure.config.secrets import needed

    return [USERNAME, *needed(target)]


def _secret_files(
    target: Target, root: str, read: Iterable[RenderedFile], values: Mapping[str, bytes]
) -> list[RenderedFile]:
    found = [
        RenderedFile(f"{root}/secrets/{file.services[0]}/{_flat(file)}", file.content, 0o400, True)
        for file in read
        if file.secret
    ]
    names = {USERNAME: gateway.username(target, values).encode()}
    if paper := _paper_user(target):
        names[f"{USERNAME}-paper"] = paper.encode()
    found += [
        RenderedFile(f"{root}/secrets/gateway/{name}", value, 0o400, True)
        for name, value in names.items()
    ]
    return found
