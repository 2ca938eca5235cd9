"""Docker's commands as data. Pure; runs on the host: standard library, Python 3.9."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.release_files import HOOKS_FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Command = list[str]

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
FOLDER_LABEL = "com.docker.compose.project.working_dir"
NUMBER_LABEL = "com.docker.compose.container-number"
ONE_OFF_LABEL = "com.docker.compose.oneoff"

TELL_IBC = """
exec 3<>/dev/tcp/127.0.0.1/$1 || exit 1
printf 'RESTART\\n' >&3
while read -r -t 10 answer <&3; do
  case $answer in OK* | ERROR*) break ;; esac
done
printf '%s\\n' "$answer"
"""
"""Sends one command to IBC's command server on port $1 and prints its answer."""

SEE_SCREEN = (
    "exec setsid --wait bash -c 'DISPLAY=${DISPLAY:-:1} socat -T 40 STDIO"
    ' EXEC:"x11vnc -inetd -nopw -quiet -noshm -noxdamage -nosel -norc"; kill -KILL 0\''
)
"""x11vnc on standard input and output: no port, no password. Some versions do not end when they are
left, so the whole process group does."""

NO_HOOK = 99
TYPE_LINE = (
    f"hook={HOOKS_FOLDER}/second-factor.sh; grep -qs '^type)' \"$hook\" || exit {NO_HOOK};"
    ' exec bash "$hook" type'
)
"""Types the line on standard input into the window that asks for a code, which gets the keys first.
A container of an earlier release has no such hook."""

SHOW_SCREEN = """
read -r password; umask 077; file=$(mktemp)
printf '%s\\n' "$password" >"$file"
x11vnc -display "${DISPLAY:-:1}" -passwdfile "rm:$file" -forever -shared -noipv6 -noxdamage \\
  -rfbport 5900 2>&1 &
vnc=$!
cat >/dev/null; kill "$vnc"; wait "$vnc"; rm -f "$file"
"""
"""The password comes on standard input and lies in a file until x11vnc has read it. When standard
input ends, for whatever reason, x11vnc ends too."""


def engine_version() -> Command:
    """The engine's version; fails when it does not answer."""
    return ["docker", "version", "--format", "{{.Server.Version}}"]


def client_version() -> Command:
    """`Docker version 27.1.2, …`, or `podman version 5.4.2`."""
    return ["docker", "--version"]


def image_architecture(image: str) -> Command:
    """`amd64`, `arm64`; nothing for an image that is not there."""
    return ["docker", "image", "inspect", "--format", "{{.Architecture}}", image]


def compose_version() -> Command:
    """Compose v2's version; fails when only v1 is there."""
    return ["docker", "compose", "version", "--short"]


def marks(project: str) -> list[str]:
    """The labels of a project's containers, without those that are made for one command."""
    return [f"{PROJECT_LABEL}={project}", f"{ONE_OFF_LABEL}=False"]


def list_containers(project: str) -> Command:
    """Ids of all containers of the project's services, also stopped ones."""
    filters = [part for mark in marks(project) for part in ("--filter", f"label={mark}")]
    return ["docker", "ps", "--all", "--quiet", "--no-trunc", *filters]


def list_running() -> Command:
    """Ids of all containers of the host that run."""
    return ["docker", "ps", "--quiet", "--no-trunc"]


def inspect(ids: Sequence[str]) -> Command:
    """Everything about these containers, as JSON."""
    return ["docker", "inspect", "--type", "container", *ids]


def compose(project: str, file: str, folder: str, *arguments: str) -> Command:
    """A Compose command. `folder` is what relative paths of the file are relative to."""
    return [
        *("docker", "compose", "--ansi", "never", "--project-name", project),
        *("--file", file, "--project-directory", folder, *arguments),
    ]


def create_beside(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Compose arguments that make one more container of each service than the given count.

    What exists is neither recreated nor started: the old container stays until the new one is
    healthy. (Compose's own recreate removes the old one before the new one starts.)
    """
    scales = [part for name, count in counts.items() for part in ("--scale", f"{name}={count + 1}")]
    return ("up", "--no-start", "--no-recreate", "--no-deps", "--no-build", *scales, *counts)


def has_image(image: str) -> Command:
    """Succeeds when the image is there."""
    return ["docker", "image", "inspect", "--format", "{{.Id}}", image]


def pull(image: str) -> Command:
    """Fetches an image by its name or digest, without a bar of its own."""
    return ["docker", "pull", "--quiet", image]


def start(ids: Sequence[str]) -> Command:
    """Starts containers in this order."""
    return ["docker", "start", *ids]


def stop(ids: Sequence[str]) -> Command:
    """Stops containers, each within the grace period that it was created with."""
    return ["docker", "stop", *ids]


def restart(ids: Sequence[str]) -> Command:
    """Stops and starts containers in place."""
    return ["docker", "restart", *ids]


def remove(ids: Sequence[str]) -> Command:
    """Removes stopped containers and their anonymous volumes."""
    return ["docker", "rm", "--force", "--volumes", *ids]


def execute(container: str, command: Sequence[str]) -> Command:
    """Runs a command inside a container."""
    return ["docker", "exec", container, *command]


def park(container: str, session: str, port: int, word: str, seconds: int) -> Command:
    """Runs `login.sh park` for one session of the gateway's container."""
    script = [f"{HOOKS_FOLDER}/login.sh", "park", str(port), word, str(seconds)]
    return ["docker", "exec", "--env", f"TRADING_MODE={session}", container, "bash", *script]


def put_into(container: str, folder: str) -> Command:
    """Unpacks a tar from standard input into a container's folder, whether it runs or not."""
    return ["docker", "cp", "-", f"{container}:{folder}"]


def top(container: str) -> Command:
    """Command lines of the container's processes; needs no tool inside it."""
    return ["docker", "top", container, "-eo", "pid,args"]


def tail(container: str, lines: int) -> Command:
    """The end of a container's log."""
    return ["docker", "logs", "--tail", str(lines), container]


def follow(container: str, since: str) -> Command:
    """A container's log from a moment on (ISO 8601), and everything that follows."""
    return ["docker", "logs", "--follow", "--since", since, container]


def read_log(container: str, since: str, lines: int, *, follow: bool) -> Command:
    """Lines of a container's log with their times."""
    options = ["--timestamps", *(["--since", since] if since else [])]
    if lines:
        options += ["--tail", str(lines)]
    return ["docker", "logs", *options, *(["--follow"] if follow else []), container]


def images(repository: str) -> Command:
    """`name:tag` of every image of a repository."""
    return ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository]


def remove_images(names: Sequence[str]) -> Command:
    """Removes names of images, and images that lose their last name."""
    return ["docker", "image", "rm", *names]


def image_names(image_id: str) -> Command:
    """The names of an image, as a JSON list."""
    return ["docker", "image", "inspect", "--format", "{{json .RepoTags}}", image_id]


def name_image(image_id: str, name: str) -> Command:
    """Gives an image a name; another image that had it loses it."""
    return ["docker", "tag", image_id, name]


def image_facts(names: Sequence[str]) -> Command:
    """What the engine knows of images, as JSON."""
    return ["docker", "image", "inspect", *names]


def run_aside(service: str, arguments: Sequence[str]) -> Command:
    """For Compose: one more container of a service for one command, gone when it ends."""
    return ["run", "--rm", "--no-deps", "--no-TTY", service, *arguments]


def all_images() -> Command:
    """Ids of every image."""
    return ["docker", "image", "ls", "--quiet", "--no-trunc"]


def image_layers(ids: Sequence[str]) -> Command:
    """A JSON list of layers (DiffIDs, the lowest first) a line, for each of these images."""
    return ["docker", "image", "inspect", "--format", "{{json .RootFS.Layers}}", *ids]


def image_store() -> Command:
    """How the engine keeps images; containerd's own store says so by its name."""
    return ["docker", "info", "--format", "{{json .DriverStatus}}"]


def load() -> Command:
    """Takes an image from standard input."""
    return ["docker", "load", "--quiet"]


def processes(container: str) -> Command:
    """Process id, resident memory in KB and command line of what runs in a container."""
    return ["docker", "top", container, "-eo", "pid,rss,args"]


def interactive(container: str, command: Sequence[str]) -> Command:
    """Runs a command inside a container, with standard input."""
    return ["docker", "exec", "--interactive", container, *command]
