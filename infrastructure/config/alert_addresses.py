"""Addresses that alerts go to, checked where they are stored and before a deploy.

They hold tokens: an address is never shown, only its service's word.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

from infrastructure.errors import UsageError

if TYPE_CHECKING:
    from infrastructure.config.models import Target

EXAMPLES = "such as ntfy://my-topic, tgram://TOKEN/CHAT or discord://ID/TOKEN"


def alert_names(target: Target) -> set[str]:
    """The names in the store that `alerts.urls` refers to."""
    return {reference.stored for reference in target.stack.alerts.urls if reference.stored}


def alert_address(value: bytes, name: str) -> bytes:
    """The address, if Apprise knows what to do with it; else UsageError, without the address."""
    import apprise

    try:
        text = value.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise _bad(name, "is not UTF-8 text") from None
    if "://" not in text:
        raise _bad(name, "is no service address")
    logging.getLogger("apprise").disabled = True  # it would print the address
    with warnings.catch_warnings():  # it loads all of its services, old imports included
        warnings.simplefilter("ignore", DeprecationWarning)
        understood = apprise.Apprise.instantiate(text, suppress_exceptions=True) is not None
    if not understood:
        raise _bad(name, "is no address that Apprise can use")
    return value


def _bad(name: str, what: str) -> UsageError:
    return UsageError(f"secret '{name}' {what}", hint=EXAMPLES, code="bad-secret")
