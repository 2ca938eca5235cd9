"""Takes out of a text what nobody else should see. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PATTERNS = (
    (re.compile(r"\b[DF]?[UIF]\d{5,9}\b"), "<account>"),
    (re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+"), "<address>"),
    (re.compile(r"(?i)(x-api-key|authorization)([\"':\s=\[]+)[^\"'\s\],]+"), r"\1\2<secret>"),
    (re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL), "<key>"),
    (re.compile(r"\b(?!127\.)(?:\d{1,3}\.){3}\d{1,3}\b"), "<ip>"),
)


class Redactor:
    """Replaces known secrets and names, then whatever looks like an account, address or key."""

    def __init__(self, secrets: Iterable[str], names: Mapping[str, str]) -> None:
        self._secrets = sorted({one for one in secrets if len(one) > 2}, key=len, reverse=True)
        self._names = {name: mark for name, mark in names.items() if len(name) > 2}

    def __call__(self, text: str) -> str:
        """The text without them."""
        for secret in self._secrets:
            text = text.replace(secret, "<secret>")
        for name, mark in self._names.items():
            text = re.sub(rf"(?<![\w]){re.escape(name)}(?![\w])", mark, text)
        for pattern, mark in _PATTERNS:
            text = pattern.sub(mark, text)
        return text
