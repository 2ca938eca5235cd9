"""Ways to run a program on the host: over SSH, or on this machine.

`connect(target)` gives a `Transport`. Only `ssh` imports Fabric and paramiko.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.transport.base import Completed, Program, Transport

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
        from infrastructure.transport.local import LocalTransport

        return LocalTransport()
    return connect_host(target.stack.host, trust_host_key)


def connect_host(
    host: Host, trust_host_key: str | None = None, dial: Dial | None = None
) -> Transport:
    """The same for a host alone; over a TCP connection that has begun, if there is one."""
    from infrastructure.transport.ssh import SshTransport

    return SshTransport(host, trust_host_key or host.trust_host_key, dial)
