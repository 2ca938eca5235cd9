"""`render [--out DIR]`: the files that a deploy would push."""

from __future__ import annotations

import contextlib
import errno
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from infrastructure.cli.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from infrastructure.cli.settings import Settings
    from infrastructure.config import Target
    from infrastructure.render.kubernetes import Exposure
    from infrastructure.render.model import RenderedFile


def render(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write them here; else list them")
    ] = None,
    no_secrets: Annotated[
        bool, typer.Option("--no-secrets", help="Leave the secrets' values out")
    ] = False,
    shape: Annotated[
        Literal["release", "kubernetes"],
        typer.Option("--format", help="release: for a host; kubernetes: for a cluster"),
    ] = "release",
    expose: Annotated[
        Literal["ingress", "route", "none"] | None,
        typer.Option("--expose", help="kubernetes: what leads to caddy.domain [ingress]"),
    ] = None,
    bridge_image: Annotated[
        str | None,
        typer.Option("--bridge-image", metavar="NAME", help="kubernetes: its image's full name"),
    ] = None,
) -> None:
    """Write every file that a deploy would push.

    Without --out only their names, modes and digests are listed. With --format kubernetes: a
    kustomization for each target of the file, or for that of --target (docs/kubernetes.md).

    \b
    Examples:
      ./deploy.py render
      ./deploy.py render --out /tmp/release --no-secrets
      ./deploy.py render --format kubernetes --out cluster
    """
    from infrastructure.cli.host import with_named_controller
    from infrastructure.config import secrets
    from infrastructure.errors import UsageError
    from infrastructure.render import release
    from infrastructure.render.model import LEFT_OUT

    current = settings(context)
    if bridge_image is not None:
        _check_image(bridge_image)
    if shape == "kubernetes":
        _kubernetes(current, out, secrets_too=not no_secrets, expose=expose, image=bridge_image)
        return
    if expose or bridge_image:
        raise UsageError(
            "--expose and --bridge-image are for --format kubernetes", hint="leave them out"
        )
    target = with_named_controller(current, current.target())
    if no_secrets or out is None:
        values = dict.fromkeys(secrets.needed(target), LEFT_OUT)
    else:
        values = secrets.resolve(target)
    rendered = release(target, values)
    if out is not None:
        write(rendered.files, out, with_secrets=not no_secrets)
        current.out.say(f"{len(rendered.files)} files of release {rendered.id} written to {out}")
    current.out.document(
        {"target": target.name, "release": rendered.id, "files": _listing(rendered.files)}
    )
    if out is None:
        _list(current, rendered.files)


def _check_image(name: str) -> None:
    from infrastructure.config.base import check_image
    from infrastructure.errors import UsageError

    try:
        check_image(name)
    except ValueError as error:
        hint = "such as registry.example.org/bridge@sha256:…"
        raise UsageError(f"--bridge-image: {error}", hint=hint) from None


def _listing(files: Iterable[RenderedFile]) -> list[dict[str, object]]:
    return [
        {"path": f.path, "mode": f"{f.mode:04o}", "bytes": len(f.content), "secret": f.secret}
        for f in files
    ]


def _list(current: Settings, files: Iterable[RenderedFile]) -> None:
    for file in files:
        note = "  (secret)" if file.secret else ""
        current.out.data(f"{file.mode:04o}  {file.path}{note}")


def _kubernetes(
    current: Settings,
    out: Path | None,
    *,
    secrets_too: bool,
    expose: Exposure | None,
    image: str | None,
) -> None:
    from infrastructure.cli.host import with_named_controller
    from infrastructure.config import secrets
    from infrastructure.errors import Problem
    from infrastructure.render.kubernetes import build_command, manifests, pinned

    files: dict[str, RenderedFile] = {}
    chosen = [with_named_controller(current, target) for target in _targets(current)]
    for target in chosen:
        wanted = secrets_too and out is not None
        values = secrets.resolve(target) if wanted else None
        made = manifests(target, values, expose=expose, bridge_image=image)
        files |= {file.path: file for file in made}
        if not pinned(target):
            current.out.warn(
                Problem(
                    f"{target.name}: the gateway's image is named by a tag, which can be moved",
                    target.place("gateway", "image"),
                    "name its digest: gateway.image: name@sha256:…",
                )
            )
    listed = sorted(files.values(), key=lambda file: file.path)
    names = [target.name for target in chosen]
    if out is not None:
        write(listed, out, with_secrets=secrets_too)
        for target in chosen:
            overlay = f"{out}/overlays/{target.name}"
            if words := build_command(target, overlay, image):
                current.out.say(shlex.join(words))
            current.out.say(shlex.join(["kubectl", "apply", "-k", overlay]))
    current.out.document({"targets": names, "files": _listing(listed)})
    if out is None:
        _list(current, listed)


def _targets(current: Settings) -> Sequence[Target]:
    """That of --target; without it all of the file that go to a host."""
    if current.target_name is None and Path(current.config or "stack.yaml").exists():
        from infrastructure.config import load_all

        every = load_all(current.config or "stack.yaml")
        found = [one for one in every if one.stack.runtime == "compose"] or every[:1]
        for warning in (each for target in found for each in target.warnings):
            current.out.warn(warning)
        return found
    return [current.target()]


def write(files: Iterable[RenderedFile], out: Path, *, with_secrets: bool) -> None:
    """Writes files below `out`, which only its owner can enter; what was there stays.

    No symbolic link below `out` is followed: it could lead a secret to where others read it.
    """
    import os

    from infrastructure.errors import UsageError

    previous = os.umask(0o077)
    at = out
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file in files:
            if file.secret and not with_secrets:
                continue
            at = out / file.path
            _write(out, file)
    except OSError as error:
        why = "a symbolic link or no folder is in the way" if error.errno in _IN_THE_WAY else None
        raise UsageError(
            f"cannot write {at}: {why or error.strerror}",
            hint="choose an empty folder",
        ) from error
    finally:
        os.umask(previous)


_IN_THE_WAY = (errno.ELOOP, errno.ENOTDIR)


def _write(out: Path, file: RenderedFile) -> None:
    import os

    folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        *parts, name = file.path.split("/")
        for part in parts:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=folder)
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(name, flags, 0o600, dir_fd=folder)
        with os.fdopen(descriptor, "wb") as written:
            written.write(file.content)
            os.fchmod(written.fileno(), file.mode)
    finally:
        os.close(folder)
