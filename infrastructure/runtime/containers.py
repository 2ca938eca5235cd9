"""What the engine says of containers and images. Runs on the host: standard library, Python 3.9.

It is asked over its own socket, which takes milliseconds instead of a command each. Only for
looking, and only where the engine listens on a local socket as usual: whatever is otherwise makes
these questions return None, and the `docker` command is asked, which also explains what is wrong.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from infrastructure.release_files import HASH_LABEL
from infrastructure.runtime.base import Container, HostFailure, Neighbour
from infrastructure.runtime.commands import (
    FOLDER_LABEL,
    NUMBER_LABEL,
    ONE_OFF_LABEL,
    PROJECT_LABEL,
    SERVICE_LABEL,
    marks,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STOPPED = {"exited", "dead", "created", "paused"}
NEVER = "0001-01-01T00:00:00Z"
IBC, IBCONTROLLER, IBG_CONTROLLER = "ibc", "ibcontroller", "ibg-controller"
_RELEASE = re.compile(r"(?:^|/)releases/([^/]+)/")


Action = Literal["create", "update", "restart", "remove", "unchanged"]
ENGINE = "unix:///var/run/docker.sock"
SECONDS, REGISTRY_SECONDS = 10.0, 60.0


class Runs(Protocol):
    """What is asked of a container or process: its state, and the hash it was made from."""

    @property
    def state(self) -> str:
        """As in `Container`."""

    @property
    def hash(self) -> str: ...


def parse_inspect(text: str, base: Path | None = None) -> list[Container]:
    """The containers that `docker inspect` describes, ordered by service and number.

    Without those that Compose has made for one command: they serve nothing, and end by themselves.

    Raises:
        HostFailure: one was made from another folder than `base`: it is another stack's, of the
            same name, and nothing of it is ours to stop or to look at.
    """
    items = json.loads(text or "[]")
    if base is not None:
        for item in items:
            require_own((item["Config"].get("Labels") or {}).get(FOLDER_LABEL, ""), base)
    found = [_container(item) for item in items if not _one_off(item)]
    return sorted(found, key=lambda container: (container.service, container.number))


def _one_off(item: dict[str, Any]) -> bool:
    labels = item["Config"].get("Labels") or {}
    return str(labels.get(ONE_OFF_LABEL, "")).lower() == "true"


def require_own(folder: str, base: Path) -> None:
    """HostFailure when containers of our stack's name were made from another folder."""
    if folder and not _within(Path(folder), base):
        raise HostFailure(
            "name-taken",
            f"another stack of this name runs here, from {folder}",
            "give the target another name, or set `folder` to where it lies",
        )


def _within(place: Path, base: Path) -> bool:
    return base in (place, *place.parents) or base.resolve() in (place, *place.resolve().parents)


def parse_neighbours(text: str) -> list[Neighbour]:
    """The same of all containers of a host: whose they are, what they publish and may take."""
    found = []
    for item in json.loads(text or "[]"):
        labels = item["Config"].get("Labels") or {}
        bound = ((item.get("NetworkSettings") or {}).get("Ports") or {}).values()
        ports = [(one["HostIp"], int(one["HostPort"])) for each in bound for one in each or ()]
        found.append(
            Neighbour(
                item["Name"].lstrip("/"),
                labels.get(PROJECT_LABEL, ""),
                labels.get(FOLDER_LABEL, ""),
                tuple(ports),
                int((item.get("HostConfig") or {}).get("Memory") or 0),
            )
        )
    return found


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


def actions(wanted: Mapping[str, str], running: Mapping[str, Runs]) -> dict[str, Action]:
    """What has to happen to each service, from the hashes that are wanted and what runs.

    It decides for a deploy and for a rollback, on the laptop and on the host.
    """
    found: dict[str, Action] = {
        name: _action(mark, running.get(name)) for name, mark in wanted.items()
    }
    return {**found, **{name: "remove" for name in running if name not in wanted}}


def _action(mark: str, running: Runs | None) -> Action:
    if running is None:
        return "create"
    if running.hash != mark:
        return "update"
    return "restart" if running.state in STOPPED else "unchanged"


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


def controller_of(text: str) -> str | None:
    """Which program logs the gateway in, from `docker image inspect`; None: no such image.

    Sources: the start scripts and Dockerfiles of gnzsnz/ib-gateway (IBC) and of ibg-controller,
    which builds on it and takes over when USE_IBG_CONTROLLER=yes; ibcontroller's variables.
    """
    found: list[dict[str, Any]] = json.loads(text or "[]")
    if not found:
        return None
    config = found[0].get("Config") or {}
    names = dict(pair.partition("=")[::2] for pair in config.get("Env") or [])
    words = " ".join(
        [
            *(found[0].get("RepoTags") or []),
            *(config.get("Labels") or {}).values(),
            *(config.get("Entrypoint") or []),
            *(config.get("Cmd") or []),
        ]
    ).lower()
    if "USE_IBG_CONTROLLER" in names or "ibg-controller" in words:
        return IBG_CONTROLLER
    if "IBC_APP_DIR" in names or "ibcontroller" in words or "ib-controller" in words:
        return IBCONTROLLER
    return IBC


def mounted(text: str) -> set[str]:
    """The releases in a `/proc/PID/mountinfo`: the fourth field is where a mount comes from."""
    roots = [line.split(" ")[3] for line in text.splitlines() if line.count(" ") > 3]
    return {found[1] for root in roots if (found := _RELEASE.search(root))}


def mounted_releases(processes: Iterable[int], proc: Path = Path("/proc")) -> set[str] | None:
    """The releases that these processes have mounted; None when it cannot be seen, as without root.

    A container's folders are those of the release that was current when it started; a gateway keeps
    them through any number of later releases, and is lost when they go.
    """
    found: set[str] = set()
    for process in processes:
        try:
            content = (proc / str(process) / "mountinfo").read_bytes()
            found |= mounted(content.decode(errors="replace"))
        except FileNotFoundError:  # it has ended
            continue
        except OSError:
            return None
    return found


def at_registry(image: str) -> tuple[str, str]:
    """The digest that an image's name has at its registry now, or "" and why not.

    The engine asks, with its own logins, mirrors and trust.
    """
    status, body = _asked(f"/distribution/{_quoted(image)}/json", REGISTRY_SECONDS)
    if status == 200 and isinstance(body, dict):
        return str((body.get("Descriptor") or {}).get("digest", "")), ""
    said = body.get("message", "") if isinstance(body, dict) else ""
    return "", said or "the engine gives no answer"


def _ask(path: str) -> Any:
    status, body = _asked(path, SECONDS)
    return body if status == 200 else None


def _asked(path: str, seconds: float) -> tuple[int, Any]:
    import socket  # only a host asks; plans read these words here

    from infrastructure.health.probes import get

    address = os.environ.get("DOCKER_HOST") or ENGINE
    if not address.startswith("unix://") or os.environ.get("DOCKER_CONTEXT"):
        return 0, None
    try:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(seconds)
            stream.connect(address[len("unix://") :])
            status, body = get(stream, path, "docker")
            return status, json.loads(body)
    except (OSError, ValueError):
        return 0, None


def inspect_project(project: str) -> str | None:
    """What `docker inspect` prints for all containers of a project; None when it cannot be had."""
    label = json.dumps({"label": marks(project)}, separators=(",", ":"))
    listed = _ask(f"/containers/json?all=1&filters={_quoted(label)}")
    if listed is None:
        return None
    found = [_ask(f"/containers/{item['Id']}/json") for item in listed]
    return None if None in found else json.dumps(found)


def top(container: str) -> list[str] | None:
    """The command lines in a container; None when they cannot be had."""
    found = _ask(f"/containers/{container}/top?ps_args=-eo%20pid,args")
    if not isinstance(found, dict):
        return None
    # Of a container that is just ending the engine says that it has none: `null`, not a list.
    return [" ".join(row[1:]) for row in found.get("Processes") or ()]


def _quoted(text: str) -> str:
    """Percent-encoded for a query, without loading urllib."""
    return "".join(c if c.isalnum() or c in "-._~" else f"%{ord(c):02X}" for c in text)
