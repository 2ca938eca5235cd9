"""Sends one message to some services, in a process of its own that lives for this one job.

The library knows over a hundred services and takes some 40 MB with them; the bridge has 64 for
everything and needs it a few times a month. Run as a script; it imports nothing of the bridge.

In, on stdin, as JSON: `{"addresses": [...], "title": ..., "body": ..., "level": ...}`. Out, on
stdout, as soon as it is known of an address: a line with its place in the list and `sent` or
`failed`. Each address has a thread of its own: a service that hangs or breaks keeps the message
from no other.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from typing import Any

_printing = threading.Lock()


def main() -> None:
    """Sends one message from standard input to the addresses in it, and ends."""
    logging.disable(logging.CRITICAL)  # the library's own messages show addresses
    import apprise

    job = json.load(sys.stdin)
    services = [_service(apprise, address) for address in job["addresses"]]
    threads = [
        threading.Thread(target=_send, args=(place, service, job), daemon=True)
        for place, service in enumerate(services)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _service(apprise: Any, address: str) -> Any:
    """What sends to an address; None when the library cannot use it."""
    service = apprise.Apprise()
    try:
        if not service.add(address):
            return None
        if "overflow=" not in address:
            for plugin in service:  # else what is too long for a service is refused as a whole
                plugin.overflow_mode = apprise.OverflowMode.SPLIT
    except Exception:
        return None  # what it says could show the address
    return service


def _send(place: int, service: Any, job: dict[str, Any]) -> None:
    sent = False
    try:
        sent = service is not None and bool(
            service.notify(title=job["title"], body=job["body"], notify_type=job["level"])
        )
    except Exception:
        sent = False
    with _printing:
        print(place, "sent" if sent else "failed", flush=True)


if __name__ == "__main__":
    main()
