"""Every shape that the public documents and older gateways give, and what is none of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.portal.state import PortalState, Reading, classify, reading_of

STATUS = {
    "authenticated": True,
    "competing": False,
    "connected": True,
    "message": "",
    "MAC": "98:F2:B3:23:BF:A0",
    "serverInfo": {"serverName": "JifN19053", "serverVersion": "Build 10.25.0p"},
    "fail": "",
}


def tickle(**flags: Any) -> dict[str, Any]:
    return {
        "session": "bb665d0f55b654f1c1a86d9e6d3e04c8",
        "ssoExpires": 460311,
        "collission": False,
        "userId": 123456789,
        "hmds": {"error": "no bridge"},
        "iserver": {"authStatus": {**STATUS, **flags}},
    }


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (STATUS, PortalState.CONNECTED),
        ({**STATUS, "established": True}, PortalState.CONNECTED),
        ({**STATUS, "established": False}, PortalState.DESYNCED),
        ({**STATUS, "connected": False}, PortalState.DESYNCED),
        ({**STATUS, "connected": False, "competing": True}, PortalState.COMPETING),
        ({**STATUS, "authenticated": False, "competing": True}, PortalState.COMPETING),
        ({**STATUS, "authenticated": False, "connected": False}, PortalState.LOGIN_REQUIRED),
        (tickle(), PortalState.CONNECTED),
        (tickle(connected=False), PortalState.DESYNCED),
        (tickle(authenticated=False), PortalState.DESYNCED),  # the SSO session below it lives
        ({**tickle(authenticated=False), "ssoExpires": 0}, PortalState.LOGIN_REQUIRED),
        ({"iServer": {"authStatus": STATUS}}, PortalState.CONNECTED),
        # top level says authenticated only, the nested part has the brokerage session's flags
        (
            {"authenticated": True, "iserver": {"authStatus": {**STATUS, "connected": False}}},
            PortalState.DESYNCED,
        ),
        ({"authenticated": "true", "connected": "true"}, PortalState.CONNECTED),
        ({"passed": True, "authenticated": True, "connected": True}, PortalState.CONNECTED),
        ({"RESULT": False}, PortalState.LOGIN_REQUIRED),
        ({"authenticated": True}, None),
        ({"session": "x", "ssoExpires": 10_000}, None),
        ({"authenticated": "perhaps", "connected": 1}, None),
        ({}, None),
        (None, None),
        ([STATUS], None),
        ("<html>", None),
    ],
)
def test_what_an_answer_says(answer: object, state: PortalState | None) -> None:
    assert classify(reading_of(answer)) is state


def test_the_brokers_text_is_kept_and_cut() -> None:
    assert reading_of({"fail": "x" * 1000}).message == "x" * 300
    assert reading_of({"error": "no bridge", "message": ""}).message == "no bridge"


def test_a_competing_flag_beside_a_working_session_is_no_state_of_its_own() -> None:
    reading = Reading(authenticated=True, connected=True, competing=True)
    assert classify(reading) is PortalState.CONNECTED


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
names = st.sampled_from(
    ["authenticated", "connected", "iserver", "authStatus", "ssoExpires", "message", "competing"]
)
answers = st.recursive(
    leaves, lambda inner: st.dictionaries(names, inner, max_size=4), max_leaves=8
)


@settings(max_examples=60)
@given(answers)
def test_no_answer_can_break_the_reader(answer: object) -> None:
    classify(reading_of(answer))
