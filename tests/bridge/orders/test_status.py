import pytest

from bridge.orders.rejects import TABLE, Effect, meaning
from bridge.orders.status import Status, from_broker


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("ApiPending", Status.PENDING_SUBMIT),
        ("PendingSubmit", Status.PENDING_SUBMIT),
        ("PreSubmitted", Status.PRE_SUBMITTED),
        ("Submitted", Status.SUBMITTED),
        ("PendingCancel", Status.PENDING_CANCEL),
        ("ApiCancelled", Status.CANCELLED),
        ("Cancelled", Status.CANCELLED),
        ("Filled", Status.FILLED),
        ("Inactive", Status.INACTIVE),
        ("Nonsense", None),
    ],
)
def test_the_brokers_words(word: str, meant: Status | None) -> None:
    assert from_broker(word) is meant


def test_every_listed_code_tells_a_person_what_to_do() -> None:
    assert all(known.next_step for known in TABLE.values())


@pytest.mark.parametrize(
    ("code", "effect"),
    [
        (201, Effect.ENDS),
        (203, Effect.ENDS),
        (321, Effect.ENDS),
        (399, Effect.WARNS),
        (202, Effect.CANCELLED),
        (10148, Effect.CHANGE_FAILED),
        (2161, Effect.WARNS),
        (31337, Effect.ENDS),
    ],
)
def test_effects(code: int, effect: Effect) -> None:
    assert meaning(code).effect is effect
