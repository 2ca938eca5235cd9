"""`docker inspect` to facts. Pure; runs on the host: standard library, Python 3.9."""

from __future__ import annotations

import json
from typing import Any

from infrastructure.release_files import HASH_LABEL
from infrastructure.runtime.base import Container
from infrastructure.runtime.commands import NUMBER_LABEL, SERVICE_LABEL

NEVER = "0001-01-01T00:00:00Z"


def parse_inspect(text: str) -> list[Container]:
    """The containers that `docker inspect` describes, ordered by service and number."""
    found = [_container(item) for item in json.loads(text or "[]")]
    return sorted(found, key=lambda container: (container.service, container.number))


def _container(item: dict[str, Any]) -> Container:
    state, config = item["State"], item["Config"]
    labels = config.get("Labels") or {}
    stopped = state["Status"] in ("exited", "dead")
    return Container(
        service=labels.get(SERVICE_LABEL, item["Name"].lstrip("/")),
        id=item["Id"],
        number=int(labels.get(NUMBER_LABEL, "1")),
        state=state["Status"],
        health=(state.get("Health") or {}).get("Status", "none"),
        image=config["Image"],
        image_id=item["Image"],
        hash=labels.get(HASH_LABEL, ""),
        since=_moment(state["FinishedAt"] if stopped else state["StartedAt"]),
        exit_code=state["ExitCode"] if stopped else None,
        restarts=item.get("RestartCount", 0),
        probe=_probe(config.get("Healthcheck")),
        addresses=_addresses(item),
        pid=state.get("Pid", 0),
    )


def _addresses(item: dict[str, Any]) -> list[str]:
    """Where the host reaches the container on the stack's private networks."""
    networks = (item.get("NetworkSettings") or {}).get("Networks") or {}
    return [one["IPAddress"] for one in networks.values() if one.get("IPAddress")]


def _probe(check: dict[str, Any] | None) -> list[str]:
    test = (check or {}).get("Test") or ["NONE"]
    if test[0] == "CMD":
        return list(test[1:])
    if test[0] == "CMD-SHELL":
        return ["sh", "-c", test[1]]
    return []


def _moment(text: str) -> str:
    return "" if text == NEVER else text


def parse_top(text: str) -> list[str]:
    """The command lines that `docker top … -eo pid,args` prints."""
    lines = text.splitlines()[1:]
    return [line.split(None, 1)[1] for line in lines if len(line.split(None, 1)) == 2]


def serving(containers: list[Container]) -> dict[str, Container]:
    """One container a service: the one that runs, else the newest.

    Two of a service exist only while a deploy replaces one, or after one that was killed.
    """
    chosen: dict[str, Container] = {}
    for container in containers:
        rival = chosen.get(container.service)
        if rival is None or container.running or not rival.running:
            chosen[container.service] = container
    return chosen


def leftovers(containers: list[Container]) -> list[Container]:
    """What a deploy that was killed left beside the containers that serve."""
    kept = {container.id for container in serving(containers).values()}
    return [container for container in containers if container.id not in kept]
