"""The key that the server makes for itself: renewed when it is over, not when it was taken away."""

from __future__ import annotations

import threading
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from infrastructure.errors import GangwayError, HostUnreachable
from infrastructure.mcp import bridge as bridge_module
from infrastructure.mcp.bridge import Answer, BridgeClient, NoAnswerError, Tunnel

if TYPE_CHECKING:
    from collections.abc import Iterator


class Played(Tunnel):
    """A way whose host is played."""

    def __init__(self, *keys: dict[str, Any], status: int = 200) -> None:
        super().__init__(cast("Any", None), cast("Any", None), "trade", None)
        self._made = "mine"
        self._played = status, {"keys": list(keys)}

    def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        assert (method, path) == ("GET", "/keys")
        return self._played


def test_a_key_that_somebody_has_revoked_is_not_made_anew() -> None:
    """It is how an owner stops an agent."""
    way = Played({"id": "mine", "revokedAt": "2026-11-30T07:00:00Z"})
    with pytest.raises(GangwayError) as refused:
        way.refused()
    assert refused.value.code == "key-revoked"


@pytest.mark.parametrize(
    "way",
    [
        Played({"id": "mine", "revokedAt": None}),
        Played({"id": "another", "revokedAt": "2026-11-30T07:00:00Z"}),
        Played(status=0),
    ],
    ids=["over", "forgotten", "away"],
)
def test_one_that_is_over_or_not_known_is(way: Played) -> None:
    way.refused()


class Host(Tunnel):
    """A way to a host that is played, and whose keys are `revoked` or over."""

    def __init__(self, revoked: str | None) -> None:
        target = SimpleNamespace(stack=SimpleNamespace(bridge=SimpleNamespace(port=8080)))
        settings = SimpleNamespace(trust_host_key=None)
        super().__init__(cast("Any", settings), cast("Any", target), "trade", None)
        self.asked: list[str] = []
        self.broken: object = ()
        self._revoked = revoked

    def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        if self._transport is None:
            raise GangwayError("there is no connection")
        if self._transport is self.broken:
            raise HostUnreachable("it broke")
        self.asked.append(f"{method} {path}")
        if method == "POST":
            return 201, {"id": "mine", "key": f"key {len(self.asked)}"}
        return 200, {"keys": [{"id": "mine", "revokedAt": self._revoked}]}


@contextmanager
def connected(*_: object) -> Iterator[Any]:
    yield SimpleNamespace(forward=lambda *_: nullcontext(4000))


@pytest.mark.parametrize("revoked", ["2026-11-30T07:00:00Z", None])
def test_a_connection_that_breaks_brings_no_revoked_key_back(
    monkeypatch: pytest.MonkeyPatch, revoked: str | None
) -> None:
    """The bridge restarts while nobody asks anything: the next question opens the way anew."""
    fine, over = Answer(200, None), Answer(401, None)
    answers: list[Answer | OSError] = [fine, ConnectionResetError(), over, fine]
    keys: list[str] = []

    def exchange(_: str, key: str, *_rest: object) -> Answer:
        keys.append(key)
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr("infrastructure.transport.connect", connected)
    monkeypatch.setattr("infrastructure.mcp.bridge._exchange", exchange)
    host = Host(revoked)
    client = BridgeClient(host)
    assert client.request("GET", "/orders") == fine
    if revoked is None:
        assert client.request("GET", "/orders") == fine
        assert host.asked == ["POST /keys", "GET /keys", "POST /keys"]
        assert keys == ["key 1", "key 1", "key 1", "key 3"]
    else:
        with pytest.raises(GangwayError) as refused:
            client.request("GET", "/orders")
        assert refused.value.code == "key-revoked"
        assert host.asked == ["POST /keys", "GET /keys"]
    client.close()
    assert host.asked[-1] == "DELETE /keys/mine"


def test_a_key_of_which_nothing_is_known_stays() -> None:
    way = Played(status=0)
    way.refused()
    assert way._made == "mine"


def without_answer(*_: object) -> Answer:
    raise TimeoutError


def opened(monkeypatch: pytest.MonkeyPatch) -> tuple[BridgeClient, Host]:
    """With a key, and its connection given up after an answer that did not come."""
    monkeypatch.setattr("infrastructure.transport.connect", connected)
    monkeypatch.setattr(bridge_module, "_exchange", without_answer)
    host = Host(None)
    client = BridgeClient(host)
    with pytest.raises(NoAnswerError):
        client.request("GET", "/orders")
    assert host.asked == ["POST /keys"]
    return client, host


def test_a_server_that_ends_after_a_time_out_leaves_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would place orders for a day."""
    client, host = opened(monkeypatch)
    client.close()
    client.close()
    with pytest.raises(GangwayError, match="has ended"):
        client.request("GET", "/orders")
    assert host.asked == ["POST /keys", "DELETE /keys/mine"]


def test_nor_one_whose_connection_broke_while_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infrastructure.transport.connect", connected)
    host = Host(None)
    host.open()
    host.broken = host._transport
    host.close()
    assert host.asked == ["POST /keys", "DELETE /keys/mine"]


def test_a_host_that_is_away_or_hangs_holds_no_end_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> Any:
        raise HostUnreachable("no answer")

    client, host = opened(monkeypatch)
    monkeypatch.setattr("infrastructure.transport.connect", away)
    client.close()
    assert host.asked == ["POST /keys"]

    client, host = opened(monkeypatch)
    goes_on = threading.Event()

    def hangs(*_: object) -> Any:
        goes_on.wait(60)
        raise HostUnreachable("no answer")

    monkeypatch.setattr("infrastructure.transport.connect", hangs)
    monkeypatch.setattr(bridge_module, "_ENDING_SECONDS", 0.05)
    client.close()
    goes_on.set()
