"""The error with which a gateway refuses an order."""

from __future__ import annotations


class RefusedError(Exception):
    """The gateway refuses; `code` and `text` are those of its error message."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
