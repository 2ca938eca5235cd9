"""Opens the page in this machine's browser, where a person sits before one."""

from __future__ import annotations

import os
import sys
import webbrowser

TEXT_BROWSERS = {"www-browser", "links", "elinks", "lynx", "w3m"}
"""They would take the terminal over, and show no picture."""


def can_open() -> bool:
    """Whether this is a desktop, and not a shell on some other machine."""
    if os.environ.get("SSH_CONNECTION"):
        return False
    graphical = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if not graphical:
        return False
    try:
        return getattr(webbrowser.get(), "name", "") not in TEXT_BROWSERS
    except webbrowser.Error:
        return False


def open_page(address: str) -> bool:
    """Whether a browser was started.

    The address may show among its arguments: the ticket in it is good once, and for this user only.
    """
    return webbrowser.open(address)
