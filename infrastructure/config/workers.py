"""`workers:`: containers of one's own in the stack."""

from __future__ import annotations

import shlex
from typing import Any, Literal

from pydantic import Field, field_validator

from infrastructure.config.base import (
    SecretRef,
    Section,
    check_image,
    plain_text,
)
from infrastructure.release_files import SERVICES

RESERVED = (*SERVICES, "worker", "localhost")
"""Names that mean something else in a stack, on its networks or in a command."""
OURS = ("BRIDGE_URL", "BRIDGE_API_KEY_FILE", "TWS_HOST", "TWS_PORT", "TWS_CLIENT_ID")
"""Variables that a worker gets."""
TRIAL_IDS = range(9_000, 10_000)
"""Client ids that the bridge tries a connection's settings with."""


class Worker(Section):
    """A container of your own beside the bridge (docs/workers.md)."""

    image: str | None = None
    """Image by tag or digest; this or `build`."""
    build: str | None = None
    """Folder with a Dockerfile, beside stack.yaml: it is shipped, and built on the host."""
    command: tuple[str, ...] | None = None
    """What it runs instead of the image's own command; the sandbox needs it."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Variables for it; those that gangway gives are refused."""
    secrets: dict[str, SecretRef] = Field(default_factory=dict)
    """Name to [secret](#configuration): a file in its container, whose path is in NAME_FILE."""
    api_key: Literal["none", "read", "trade"] = "none"
    """Scope of a key of its own for the bridge: made, renewed and revoked with the worker."""
    memory: int = Field(default=96, ge=16, le=1_048_576)
    """Its memory limit in MB, without swap; all services and workers have to fit the profile."""
    restart: Literal["unless-stopped", "on-failure", "no"] = "unless-stopped"
    """What happens when it ends by itself."""
    needs: Literal["bridge-ready", "gateway"] | None = None
    """What a deploy waits for before it starts the worker: `/ready`, or the gateway's API."""
    tws_client_id: int | None = Field(default=None, ge=1, le=999_999)
    """Lets it reach the gateway's API itself, under this client id; the bridge's limits on orders
    do not hold there. Unset: only the bridge."""

    @field_validator("image")
    @classmethod
    def _image(cls, value: str | None) -> str | None:
        return value if value is None else check_image(value)

    @field_validator("command", mode="before")
    @classmethod
    def _command(cls, value: Any) -> Any:
        words = shlex.split(value) if isinstance(value, str) else value
        if isinstance(words, (list, tuple)) and not words:
            raise ValueError("a command has at least one word; leave it out for the image's own")
        return words

    @field_validator("environment")
    @classmethod
    def _environment(cls, value: dict[str, str]) -> dict[str, str]:
        for _ in map(plain_text, value.values()):
            pass
        return value
