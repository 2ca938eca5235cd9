"""`vnc`: the gateway's screen for as long as one looks at it, and not longer."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import string
import subprocess
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infrastructure.cli.settings import Settings, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infrastructure.apply.session import Session

LENGTH = 8
"""All that the VNC protocol looks at."""
VIEWERS = ("vncviewer", "remmina", "vinagre", "krdc", "open")


def vnc(
    context: typer.Context,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Local port; 0: a free one")
    ] = 0,
    viewer: Annotated[
        bool, typer.Option("--viewer/--no-viewer", help="Start a viewer or browser")
    ] = True,
    web: Annotated[bool, typer.Option("--web", help="Show it in the browser, with noVNC")] = False,
) -> None:
    """Show the gateway's screen until Ctrl-C.

    Starts a VNC server inside the running container (no restart, no new login) with a password of
    its own for this use, leads it through the SSH connection to 127.0.0.1 here, and ends it when
    this command ends, however it ends. With --web it prints an address for the browser instead,
    which is good for one tab.

    \b
    Examples:
      ./deploy.py vnc
      ./deploy.py vnc --web
      ./deploy.py vnc --port 5901 --no-viewer
    """
    from infrastructure.cli.host import reached

    current = settings(context)
    target = current.target()
    password = one_time_password()
    with reached(current, target) as (session, transport):
        session.open()
        with session.screen(password) as (address, there):
            if web:
                told = {"password": password, "name": target.name}
                in_browser(
                    current,
                    session,
                    lambda: transport.dial(address, there),
                    told,
                    port,
                    viewer=viewer,
                )
            else:
                with transport.forward(address, there, port) as here:
                    in_viewer(current, session, password, here, viewer=viewer)
    current.out.say("the screen is off again")


def in_viewer(
    current: Settings, session: Session, password: str, here: int, *, viewer: bool
) -> None:
    """The address for any VNC viewer, and one started if there is one."""
    url = f"vnc://127.0.0.1:{here}"
    current.out.document({"url": url, "port": here, "password": password})
    current.out.data(url)
    if not current.out.json:
        current.out.say(f"password {password}, for this once; Ctrl-C turns it off")
    with started(here if viewer and current.out.live else None):
        look(session)


def in_browser(
    current: Settings,
    session: Session,
    dial: Callable[[], Any],
    told: dict[str, str],
    port: int,
    *,
    viewer: bool,
) -> None:
    """The address for the browser, opened where there is one and a person before it."""
    from infrastructure.screen import server
    from infrastructure.screen.server import served

    with served(dial, told, port) as access:
        current.out.document({"url": access.address, "port": access.port})
        current.out.data(access.address)
        current.out.say("the address is good for one tab; Ctrl-C turns the screen off")
        if viewer and current.out.live and server.can_open():
            server.open_page(access.address)
        look(session)


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


def look(session: Session) -> None:
    """Until Ctrl-C, or until the VNC server ends on its own."""
    try:
        session.watch_screen()
    except KeyboardInterrupt:
        return
