"""`render [--out DIR]`: the files that a deploy would push."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infrastructure.cli.options import settings

if TYPE_CHECKING:
    from infrastructure.render.model import Release, RenderedFile


def render(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write them here; else list them")
    ] = None,
    no_secrets: Annotated[
        bool, typer.Option("--no-secrets", help="Leave the secrets' values out")
    ] = False,
) -> None:
    """Write every file that a deploy would push.

    Without --out only their names, modes and digests are listed.

    \b
    Examples:
      ./deploy.py render
      ./deploy.py render --out /tmp/release --no-secrets
    """
    from infrastructure.config import secrets
    from infrastructure.render import release

    current = settings(context)
    target = current.target()
    if no_secrets or out is None:
        values = dict.fromkeys(secrets.needed(target), b"left-out")
    else:
        values = secrets.resolve(target)
    rendered = release(target, values)
    if out is not None:
        write(rendered, out, with_secrets=not no_secrets)
        current.out.say(f"{len(rendered.files)} files of release {rendered.id} written to {out}")
    listing = [
        {"path": f.path, "mode": f"{f.mode:04o}", "bytes": len(f.content), "secret": f.secret}
        for f in rendered.files
    ]
    current.out.document({"target": target.name, "release": rendered.id, "files": listing})
    if out is None:
        for file in rendered.files:
            note = "  (secret)" if file.secret else ""
            current.out.data(f"{file.mode:04o}  {file.path}{note}")


def write(rendered: Release, out: Path, *, with_secrets: bool) -> None:
    """Writes a release below `out`, which only its owner can enter; what was there stays.

    No symbolic link below `out` is followed: it could lead a secret to where others read it.
    """
    import os

    from infrastructure.errors import UsageError

    previous = os.umask(0o077)
    at = out
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file in rendered.files:
            if file.secret and not with_secrets:
                continue
            at = out / file.path
            _write(out, file)
    except OSError as error:
        why = "a symbolic link or no folder is in the way" if error.errno in _IN_THE_WAY else None
        raise UsageError(
            f"cannot write {at}: {why or error.strerror}",
            hint="choose an empty folder" if why else "",
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
