"""Docker's commands, exactly."""

from infrastructure.runtime import commands


def test_new_containers_are_made_beside_the_old_ones() -> None:
    assert commands.create_beside({"gateway": 1, "caddy": 0}) == (
        *("up", "--no-start", "--no-recreate", "--no-deps", "--no-build"),
        *("--scale", "gateway=2", "--scale", "caddy=1", "gateway", "caddy"),
    )


def test_compose_reads_a_release_relative_to_current() -> None:
    file, folder = "/opt/gangway/prod/releases/r1/compose.yaml", "/opt/gangway/prod/current"
    assert commands.compose("gangway-prod", file, folder, "down") == [
        *("docker", "compose", "--ansi", "never", "--project-name", "gangway-prod"),
        *("--file", file, "--project-directory", folder, "down"),
    ]


def test_containers_are_found_by_project() -> None:
    assert commands.list_containers("gangway-prod") == [
        *("docker", "ps", "--all", "--quiet", "--no-trunc"),
        *("--filter", "label=com.docker.compose.project=gangway-prod"),
        *("--filter", "label=com.docker.compose.oneoff=False"),
    ]


def test_stopping_keeps_each_container_s_own_grace_period() -> None:
    assert commands.stop(["a", "b"]) == ["docker", "stop", "a", "b"]


def test_a_log_is_followed_from_a_start() -> None:
    since = "2026-11-21T03:40:10.1Z"
    assert commands.follow("a", since) == ["docker", "logs", "--follow", "--since", since, "a"]
