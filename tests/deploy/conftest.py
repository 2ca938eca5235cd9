"""Targets and secrets that the tests of this folder share."""

from __future__ import annotations

import textwrap
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from infrastructure.config import load, secrets
from infrastructure.health import pressure
from infrastructure.render import release
from infrastructure.render.model import Release

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from infrastructure.config import Target

PAPER = """
targets:
  prod:
    host: ubuntu@203.0.113.7
    gateway:
      username: alice
"""


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Budgets of the tests' own processes do not grow with this machine's load."""
    monkeypatch.setattr(pressure, "stalled", dict)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a stack.yaml and gives its path."""

    def write(text: str) -> Path:
        path = tmp_path / "stack.yaml"
        path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        return path

    return write


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Target]:
    """A target from nested keywords over a minimal paper target."""
    return partial(target_of, tmp_path)


def target_of(folder: Path, /, **sections: Any) -> Target:
    """The same, with its stack.yaml in a folder."""
    values: dict[str, Any] = {"host": "ubuntu@203.0.113.7", "gateway": {"username": "alice"}}
    for name, section in sections.items():
        base = values.get(name)
        if isinstance(section, dict) and isinstance(base, dict):
            values[name] = {**base, **section}
        else:
            values[name] = section
    path = folder / "stack.yaml"
    path.write_text(yaml.safe_dump({"targets": {"prod": values}}), encoding="utf-8")
    return load(path)


SECRET_VALUES = {
    "tws-password": b"pa\\ss$word",
    "tws-password-paper": b"of-the-paper-user",
    "portal-password": b"of-the-portal-user",
    "bridge-admin-key": b"key-of-the-tests",
    "totp-seed": b"jbsw y3dp ehpk 3pxp jbsw y3dp ehpk 3pxp",
    "flex-token": b"112233445566778899",
}


def rendered(target: Target) -> Release:
    """The target's release, with made-up secrets."""
    return release(target, {name: SECRET_VALUES[name] for name in secrets.needed(target)})
