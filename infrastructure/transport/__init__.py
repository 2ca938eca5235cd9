"""Ways to run a program on the host: over SSH, or on this machine.

`connect(target)` gives a `Transport`. Only `ssh` imports Fabric and paramiko; what those
cannot do goes over the user's own `ssh` (`openssh`).
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from infrastructure.config.terms import FINGERPRINT
from infrastructure.errors import GangwayError, HostKeyError, HostUnreachable, UsageError
from infrastructure.transport.base import Completed, Program, Transport, identity

if TYPE_CHECKING:
    from infrastructure.config import Target
    from infrastructure.config.host import Host
    from infrastructure.transport.base import Dial

__all__ = ["Completed", "Program", "Transport", "connect", "connect_host"]


def connect(target: Target, trust_host_key: str | None = None) -> Transport:
    """An open transport to the target's host.

    Raises:
        HostKeyError: the host's key, or the jump host's, is unknown or not the one it was.
        HostUnreachable: no answer, or the host does not let us in.
    """
    if target.local:
        from infrastructure.transport.base import LocalTransport

        return LocalTransport()
    return connect_host(target.stack.host, trust_host_key)


def refuse_pipe(known_hosts: str) -> None:
    """UsageError for what `ssh` would read without an end."""
    from infrastructure.files import expanded

    with contextlib.suppress(OSError):
        if expanded(known_hosts).is_fifo():
            raise UsageError(
                f"the known hosts in {known_hosts} are a pipe, no file",
                hint="host.known_hosts in stack.yaml, or UserKnownHostsFile in ~/.ssh/config",
                code="ssh-config",
            )


def _fingerprint(given: str | None) -> str | None:
    if given is not None and not re.fullmatch(FINGERPRINT, given):
        raise UsageError(
            "--trust-host-key wants a fingerprint: SHA256: and 43 characters",
            hint="ssh-keygen -lf FILE prints it",
        )
    return given


def connect_host(
    host: Host, trust_host_key: str | None = None, dial: Dial | None = None
) -> Transport:
    """The same for a host alone; over a TCP connection that has begun, if there is one.

    What the user's own `ssh` would do is done: by paramiko where it can, else by `ssh`.
    """
    from infrastructure.transport.openssh import OpensshTransport, Resolving

    if host.identity:
        identity(host)
    trusted = _fingerprint(trust_host_key) or host.trust_host_key
    resolving = Resolving(host)  # answers while paramiko loads
    from infrastructure.transport.ssh import NotLetInError, SshTransport

    found = resolving.result()
    for path in (host.known_hosts, *(found.known_hosts if found else ())):
        refuse_pipe(path)
    if found is not None and found.needs:
        return OpensshTransport(host, trusted)
    try:
        return SshTransport(host, trusted, dial, found)
    except NotLetInError as refused:
        if found is None:
            raise
        try:
            return OpensshTransport(host, trusted)
        except HostUnreachable:
            raise refused from None
    except HostKeyError as stranger:
        # In known_hosts paramiko knows no pattern and no second key of a kind; a jump host's key
        # `ssh` might ask a person about, so that is refused here.
        if found is None or found.jump or trusted:
            raise
        try:
            return OpensshTransport(host)
        except GangwayError:
            raise stranger from None
