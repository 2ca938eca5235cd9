"""The same preparation as a cloud-init document, for machines that are made with user data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.prepare.script import script

if TYPE_CHECKING:
    from infrastructure.prepare.script import Wishes

PROGRAM = "/usr/local/sbin/gangway-prepare"


def cloud_init(wanted: Wishes) -> str:
    """A `#cloud-config` document (YAML) that runs the preparation at the first boot."""
    import yaml

    document = {
        "write_files": [{"path": PROGRAM, "permissions": "0755", "content": script(wanted)}],
        "runcmd": [[PROGRAM]],
    }
    return "#cloud-config\n" + yaml.safe_dump(document, sort_keys=False, width=1_000_000)
