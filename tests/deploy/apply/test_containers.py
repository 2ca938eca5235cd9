"""`docker inspect` to facts."""

import json
from typing import Any

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


def test_command_lines_of_top() -> None:
    text = "PID                 COMMAND\n123    java -Xmx256m a b\n9 sleep 1\n"
    assert parse_top(text) == ["java -Xmx256m a b", "sleep 1"]
