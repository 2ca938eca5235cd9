"""`render [--out DIR]`: the files that a deploy would push."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infrastructure.cli.settings import settings

if TYPE_CHECKING:
    from infrastructure.render import Release


def command(
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
    """Writes a release below `out`, which only its owner can enter; what was there stays."""
    import os

    from infrastructure.errors import UsageError

    previous = os.umask(0o077)
    try:
        for file in rendered.files:
            if file.secret and not with_secrets:
                continue
            path = out / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_bytes(file.content)
            path.chmod(file.mode)
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}") from error
    finally:
        os.umask(previous)
