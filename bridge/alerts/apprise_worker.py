"""Sends one message to some services, in a process of its own that lives for this one job.

The library knows over a hundred services and takes some 40 MB with them; the bridge has 64 for
everything and needs it a few times a month. Run as a script; it imports nothing of the bridge.

In, on stdin, as JSON: `{"addresses": [...], "title": ..., "body": ..., "level": ...}`. Out, on
stdout: `{"sent": [true, false, ...]}`, one for each address.
"""

from __future__ import annotations

import json
import logging
import sys


def main() -> None:
    """Sends one message from standard input to the addresses in it, and ends."""
    logging.disable(logging.CRITICAL)  # the library's own messages show addresses
    import apprise

    job = json.load(sys.stdin)
    sent = []
    for address in job["addresses"]:
        service = apprise.Apprise()
        sent.append(
            bool(
                service.add(address)
                and service.notify(title=job["title"], body=job["body"], notify_type=job["level"])
            )
        )
    json.dump({"sent": sent}, sys.stdout)


if __name__ == "__main__":
    main()
