"""compose.yaml as a mapping, and the hash of each service over all that it reads."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from infrastructure.release_files import HASH_LABEL, SECRETS
from infrastructure.render import bridge, caddy, gateway, portal, workers
from infrastructure.render.layout import compose_layout
from infrastructure.render.model import Service

if TYPE_CHECKING:
    from collections.abc import Iterable

    import yaml

    from infrastructure.config.target import Target
    from infrastructure.render.model import RenderedFile

_HEAD = "# Written by gangway from stack.yaml. Changes made here are gone with the next deploy.\n"


@functools.cache
def _dumper() -> type[yaml.SafeDumper]:
    """Quotes every text that does not begin as a word: readers differ in what they call a number.

    `1e5` and `0o14` are texts for PyYAML and numbers for Compose.
    """
    import yaml

    safe: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(safe):  # type: ignore[misc, valid-type]
        pass

    Dumper.add_representer(str, _scalar)
    return Dumper


def _scalar(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None if re.match("[A-Za-z/].", value) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def services(
    target: Target, user: str, bridge_image: str, files: Iterable[RenderedFile]
) -> tuple[tuple[Service, ...], str]:
    """The services with their hashes, and the text of compose.yaml with those in its labels."""
    files = list(files)
    document = interpolated(_document(target, user, bridge_image, files))
    found = []
    for name, definition in document["services"].items():
        known = content_hash(name, definition, files)
        definition["labels"][HASH_LABEL] = known
        image, builds = definition["image"], "build" in definition
        found.append(
            Service(name, image, known, name == "gateway", builds, *workers.terms(target, name))
        )
    return tuple(found), text(document)


def text(document: dict[str, Any]) -> str:
    """The Compose file as text, dumped once from its mapping."""
    import yaml

    dumped = yaml.dump(document, Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=1000)
    return _HEAD + str(dumped)


def content_hash(name: str, definition: Any, files: Iterable[RenderedFile]) -> str:
    """The hash of a service: its definition and every file that it reads."""
    digest = hashlib.sha256(json.dumps(definition, sort_keys=True).encode())
    for item in sorted(files, key=lambda file: file.path):
        if name in item.services:
            digest.update(f"{item.path}\0{item.mode}\0{item.digest}\0".encode())
    return digest.hexdigest()[:32]


def _document(
    target: Target, user: str, bridge_image: str, files: list[RenderedFile]
) -> dict[str, Any]:
    own = {
        "gateway": gateway.service(target, user),
        "bridge": bridge.service(target, bridge_image),
        "caddy": caddy.service(target),
    }
    if target.stack.portal.enabled:
        own["portal"] = portal.service(target)
    for name in target.stack.workers:
        image = workers.image(target, name, files)
        own[name] = workers.service(target, name, image, compose_layout(target))
    secrets = [
        one if isinstance(one, str) else one["source"]
        for service in own.values()
        for one in service.get("secrets", ())
    ]
    networks = [name for service in own.values() for name in service["networks"]]
    return {
        "name": target.project,
        "services": {name: {**_common(target, name), **service} for name, service in own.items()},
        "networks": {name: {} for name in networks},
        "secrets": {
            name: {"file": str(target.base / "current" / SECRETS / name)} for name in secrets
        },
    }


def _common(target: Target, name: str) -> dict[str, Any]:
    memory, with_swap = target.stack.budget(name)
    return {
        "hostname": name,
        "labels": {
            "gangway.stack": target.name,
            "gangway.service": name,
            **workers.labels(target, name),
            HASH_LABEL: "",
        },
        "restart": "unless-stopped",
        "init": True,
        "stop_grace_period": "15s",
        "mem_limit": f"{memory}m",
        "memswap_limit": f"{with_swap}m",
        "ulimits": {"nofile": {"soft": 10_000, "hard": 10_000}},
        "pids_limit": 256,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "logging": {
            "driver": "json-file",
            "options": {"max-size": "10m", "max-file": "3"},
        },
    }


def interpolated(value: Any) -> Any:
    """A copy with every `$` doubled: Compose would look for variables in its texts."""
    if isinstance(value, dict):
        return {key: interpolated(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [interpolated(inner) for inner in value]
    return value.replace("$", "$$") if isinstance(value, str) else value
