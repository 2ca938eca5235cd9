"""`docker inspect` to facts."""

import json
from pathlib import Path
from typing import Any

import pytest

from infrastructure.runtime.base import HostFailure
from infrastructure.runtime.commands import marks
from infrastructure.runtime.containers import leftovers, parse_inspect, parse_top, serving


def inspected(service: str, number: int = 1, state: str = "running", **more: Any) -> dict[str, Any]:
    return {
        "Id": f"{service}-{number}",
        "Name": f"/gangway-prod-{service}-{number}",
        "Image": "sha256:1",
        "RestartCount": 0,
        "State": {
            "Status": state,
            "StartedAt": "2026-11-21T03:40:10.1Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
            "ExitCode": 0,
            **more,
        },
        "Config": {
            "Image": f"{service}:2",
            "Labels": {
                "com.docker.compose.service": service,
                "com.docker.compose.container-number": str(number),
                "gangway.hash": "abc",
            },
            "Healthcheck": {"Test": ["CMD", "check", "--now"]},
        },
        "NetworkSettings": {"Networks": {"web": {"IPAddress": "10.1.1.2"}}},
    }


def test_a_running_container() -> None:
    [found] = parse_inspect(json.dumps([inspected("caddy", Health={"Status": "healthy"})]))
    assert (found.service, found.state, found.health) == ("caddy", "running", "healthy")
    assert (found.image, found.image_id, found.hash) == ("caddy:2", "sha256:1", "abc")
    assert found.since == "2026-11-21T03:40:10.1Z"
    assert found.exit_code is None
    assert found.probe == ["check", "--now"]
    assert found.addresses == ["10.1.1.2"]


def test_an_ended_container_tells_when_and_how() -> None:
    item = inspected("caddy", state="exited", FinishedAt="2026-11-21T04:00:00Z", ExitCode=3)
    [found] = parse_inspect(json.dumps([item]))
    assert (found.since, found.exit_code, found.health) == ("2026-11-21T04:00:00Z", 3, "none")


def test_shell_checks_and_none() -> None:
    item = inspected("a")
    item["Config"]["Healthcheck"] = {"Test": ["CMD-SHELL", "true || false"]}
    assert parse_inspect(json.dumps([item]))[0].probe == ["sh", "-c", "true || false"]
    item["Config"]["Healthcheck"] = {"Test": ["NONE"]}
    assert parse_inspect(json.dumps([item]))[0].probe == []
    del item["Config"]["Healthcheck"]
    assert parse_inspect(json.dumps([item]))[0].probe == []


def test_what_never_ran_has_no_moment() -> None:
    item = inspected("a", state="created", StartedAt="0001-01-01T00:00:00Z")
    assert parse_inspect(json.dumps([item]))[0].since == ""


def test_nothing() -> None:
    assert parse_inspect("") == []


def test_the_one_that_runs_serves_else_the_newest() -> None:
    pair = [inspected("a", 1), inspected("a", 2, "created"), inspected("b", 1, "exited")]
    pair.append(inspected("b", 2, "created"))
    found = parse_inspect(json.dumps(pair))
    assert {name: one.id for name, one in serving(found).items()} == {"a": "a-1", "b": "b-2"}
    assert [one.id for one in leftovers(found)] == ["a-2", "b-1"]


def test_what_was_made_for_one_command_serves_nothing() -> None:
    one_off, real = inspected("a", 1), inspected("a", 5, "exited")
    one_off["Config"]["Labels"]["com.docker.compose.oneoff"] = "True"
    real["Config"]["Labels"]["com.docker.compose.oneoff"] = "False"
    found = parse_inspect(json.dumps([real, one_off]))
    assert [one.id for one in found] == ["a-5"]
    assert leftovers(found) == []
    assert marks("p") == ["com.docker.compose.project=p", "com.docker.compose.oneoff=False"]


def test_containers_from_another_folder_are_another_stack_s(tmp_path: Path) -> None:
    (tmp_path / "prod/releases/r1").mkdir(parents=True)
    (tmp_path / "prod/current").symlink_to("releases/r1")
    (tmp_path / "link").symlink_to("prod")
    item = inspected("a")
    labels = item["Config"]["Labels"]
    for own in ("prod/current", "prod/releases/r1", "link/current", "prod"):
        labels["com.docker.compose.project.working_dir"] = str(tmp_path / own)
        for base in ("prod", "link"):
            assert parse_inspect(json.dumps([item]), tmp_path / base)
    labels["com.docker.compose.project.working_dir"] = "/srv/else/prod/current"
    assert parse_inspect(json.dumps([item])), "who asks for any"
    with pytest.raises(HostFailure, match="from /srv/else/prod/current") as caught:
        parse_inspect(json.dumps([item]), tmp_path / "prod")
    assert caught.value.code == "name-taken"


def test_command_lines_of_top() -> None:
    text = "PID                 COMMAND\n123    java -Xmx256m a b\n9 sleep 1\n"
    assert parse_top(text) == ["java -Xmx256m a b", "sleep 1"]
