"""Messages are made dataclasses when they are first used, by whoever uses them first."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import field, fields, is_dataclass
from pathlib import Path
from typing import Any, Optional

import pytest

from infrastructure.apply.protocol import encoding, events, requests
from infrastructure.apply.protocol.documents import Part, is_part, made

PROJECT = Path(__file__).resolve().parents[3]
KINDS = [*encoding.REQUESTS.values(), *encoding.EVENTS.values()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_message_becomes_one(kind: Any) -> None:
    assert is_part(kind)
    assert [one.name for one in fields(made(kind))] == list(encoding._parts(kind))
    assert made(kind) is kind


def test_a_message_is_made_with_and_without_what_it_has_defaults_for() -> None:
    class Sample(Part):
        a: int
        b: Optional[str] = None  # noqa: UP045 - as the host reads it
        c: list[int] = field(default_factory=list)

    assert not is_dataclass(Sample)
    first, second = Sample(1), Sample(2, "x", c=[3])
    assert vars(first) == {"a": 1, "b": None, "c": []}
    assert vars(second) == {"a": 2, "b": "x", "c": [3]}
    assert first.c is not Sample(1).c
    with pytest.raises(TypeError, match="'a'"):
        Sample()  # type: ignore[call-arg]


def test_many_threads_may_use_one_first() -> None:
    for _ in range(50):

        class Sample(Part):
            a: int
            c: list[int] = field(default_factory=list)

        barrier = threading.Barrier(4)
        found: list[Any] = []

        def use(kind: Any = Sample, barrier: Any = barrier, found: Any = found) -> None:
            barrier.wait()
            found.append(vars(kind(1)))

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [{"a": 1, "c": []}] * 4


def test_a_message_is_read_before_any_was_made() -> None:
    """In a process of its own: here others have used them all."""
    program = (
        "from infrastructure.apply.protocol import encoding, events\n"
        'event = encoding.event_of(b\'{"event": "step", "text": "a"}\')\n'
        "assert type(event) is events.Step and event.text == 'a', event\n"
        "assert '__dataclass_fields__' not in vars(events.Facts)\n"
        'try:\n    encoding.event_of(b\'{"event": "stage", "text": "a"}\')\n'
        "except encoding.Misshapen as wrong:\n    assert 'missing' in str(wrong)\n"
        "else:\n    raise SystemExit('taken')\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=True)


def test_both_kinds_of_messages_are_told_apart() -> None:
    assert issubclass(events.Step, events.Event)
    assert issubclass(requests.OpenRequest, requests.Request)
    assert not is_part(dict)
    assert not is_part(list[int])
