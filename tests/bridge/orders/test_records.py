"""What is handed around as a record stays as it was made, whoever holds it."""

from __future__ import annotations

import importlib
import pkgutil

import msgspec
import pytest

from bridge import orders
from bridge.orders.apply_messages import Applied

GROWS = {Applied}
"""What is filled step by step by the one who makes it."""
MODULES = sorted(each.name for each in pkgutil.iter_modules(orders.__path__))


def records(module: str) -> list[type[msgspec.Struct]]:
    found = importlib.import_module(f"bridge.orders.{module}")
    return [
        each
        for each in vars(found).values()
        if isinstance(each, type)
        and issubclass(each, msgspec.Struct)
        and each.__module__ == found.__name__
    ]


@pytest.mark.parametrize("module", MODULES)
def test_a_record_cannot_be_changed(module: str) -> None:
    changeable = {each for each in records(module) if not each.__struct_config__.frozen}
    assert changeable <= GROWS


def test_there_are_records_to_look_at() -> None:
    assert len([each for module in MODULES for each in records(module)]) > 40
