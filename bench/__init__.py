"""One measured figure beside its bar and, where there is one, beside the alternative."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A figure of `make bench`.

    `bar` is the bound to keep: at most that much, or at least when `least` is set; None without
    one. `alternative` is the same measure of another way of doing it, named in `beside`.
    `shared` is the value with the bridge held to a share of a core, where that was measured.
    """

    name: str
    value: float
    unit: str
    bar: float | None = None
    least: bool = False
    alternative: float | None = None
    beside: str = ""
    shared: float | None = None

    @property
    def kept(self) -> bool | None:
        """Whether the bar is kept; None without a bar."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.least else self.value <= self.bar

    @property
    def ratio(self) -> float | None:
        """How many times better than the alternative."""
        if not self.alternative or not self.value:
            return None
        better = self.value / self.alternative
        return better if self.least else 1 / better
