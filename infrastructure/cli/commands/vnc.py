"""`vnc`: the gateway's screen for as long as one looks at it, and not longer."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import string
import subprocess
from typing import TYPE_CHECKING, Annotated

import typer

from infrastructure.cli.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infrastructure.apply.operate import OperatorSession

LENGTH = 8
"""All that the VNC protocol looks at."""
VIEWERS = ("vncviewer", "remmina", "vinagre", "krdc", "open")


def command(
    context: typer.Context,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Local port; 0: a free one")
    ] = 0,
    viewer: Annotated[bool, typer.Option("--viewer/--no-viewer", help="Start a viewer")] = True,
    web: Annotated[bool, typer.Option("--web", help="In the browser (not available)")] = False,
) -> None:
    """Show the gateway's screen until Ctrl-C.

    Starts a VNC server inside the running container (no restart, no new login) with a password of
    its own for this use, leads it through the SSH connection to 127.0.0.1 here, and ends it when
    this command ends, however it ends.

    \b
    Examples:
      ./deploy.py vnc
      ./deploy.py vnc --port 5901 --no-viewer
    """
    from infrastructure.cli.host import reached
    from infrastructure.errors import UsageError

    if web:
        raise UsageError(
            "the screen cannot be shown in the browser: no kept package brings noVNC along",
            hint="./deploy.py vnc prints an address for any VNC viewer (macOS: open vnc://…)",
            code="no-web-viewer",
        )
    current = settings(context)
    target = current.target()
    password = one_time_password()
    with reached(current, target) as (session, transport):
        session.open()
        with (
            session.screen(password) as (address, there),
            transport.forward(address, there, port) as here,
        ):
            url = f"vnc://127.0.0.1:{here}"
            current.out.document({"url": url, "port": here, "password": password})
            current.out.data(url)
            if not current.out.json:
                current.out.say(f"password {password}, for this once; Ctrl-C turns it off")
            with started(here if viewer and current.out.live else None):
                look(session)
    current.out.say("the screen is off again")


def one_time_password() -> str:
    """Eight characters."""
    letters = string.ascii_letters + string.digits
    return "".join(secrets.choice(letters) for _ in range(LENGTH))


@contextlib.contextmanager
def started(port: int | None) -> Iterator[None]:
    """A viewer if one is installed, for the length of the block."""
    command = viewer_command(port) if port else None
    process = (
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if command
        else None
    )
    try:
        yield
    finally:
        if process is not None:
            process.terminate()


def viewer_command(port: int) -> list[str] | None:
    """How the viewer of this machine is started; None when there is none."""
    for name in VIEWERS:
        if shutil.which(name):
            if name == "vncviewer":
                return [name, f"127.0.0.1::{port}"]
            return [name, f"vnc://127.0.0.1:{port}"]
    return None


def look(session: OperatorSession) -> None:
    """Until Ctrl-C, or until the VNC server ends on its own."""
    try:
        session.watch_screen()
    except KeyboardInterrupt:
        return
