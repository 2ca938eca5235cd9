from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.environment import Environment
from bridge.settings.errors import InvalidSettingsError
from bridge.settings.profile import Profile, from_environment, merged

DEFAULTS = Profile(host="gateway", port=4003)


def change(**changes: Any) -> Profile:
    return merged(DEFAULTS, changes, DEFAULTS)


def test_the_environment_is_the_first_profile() -> None:
    environment = Environment(
        tws_host="gateway", tws_port=4004, client_id=5, portal_url="https://p:5000", data_dir=Path()
    )
    profile = from_environment(environment)
    assert (profile.host, profile.port, profile.client_id) == ("gateway", 4004, 5)
    assert profile.portal_url == "https://p:5000"


def test_fields_left_out_stay_and_null_means_the_default() -> None:
    profile = merged(
        Profile(host="elsewhere", port=4001), {"port": None, "readOnly": True}, DEFAULTS
    )
    assert (profile.host, profile.port, profile.read_only) == ("elsewhere", 4003, True)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"port": 0}, "port"),
        ({"port": "4002"}, "port"),
        ({"clientId": -1}, "clientId"),
        ({"clientId": 2**31}, "clientId"),
        ({"host": ""}, "host"),
        ({"host": "two words"}, "host"),
        ({"host": "a..b"}, "host"),
        ({"account": "'; drop"}, "account"),
        ({"connectTimeout": 0}, "connectTimeout"),
        ({"marketDataType": "fast"}, "marketDataType"),
        ({"marketDataPermissions": ["x" * 41]}, "marketDataPermissions[0]"),
        ({"retryAttempts": -1}, "retryAttempts"),
        ({"portalUrl": "ftp://x"}, "portalUrl"),
        ({"portalUrl": "http://portal.example.com"}, "portalUrl"),
        ({"portalUrl": "https://user:pass@portal"}, "portalUrl"),
        ({"portalUrl": "https://portal:99999"}, "portalUrl"),
        ({"portalUrl": "https://:pass@portal"}, "portalUrl"),
        ({"portalUrl": "https://por\ntal:5000"}, "portalUrl"),
        ({"account": "DU1234567\n"}, "account"),
        ({"portalUsername": "me\0"}, "portalUsername"),
        ({"portalFingerprint": "SHA256:12"}, "portalFingerprint"),
    ],
)
def test_what_makes_no_sense_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSettingsError) as raised:
        change(**changes)
    assert [error["field"] for error in raised.value.extra["errors"]] == [field]


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "::1"},
        {"host": "10.0.0.7"},
        {"host": "ib_gateway-1"},
        {"account": "DU1234567"},
        {"account": "U1234567"},
        {"portalUrl": "http://127.0.0.1:5000"},
        {"portalUrl": "http://portal:5000"},
        {"portalUrl": "https://portal.example.com/"},
        {"marketDataPermissions": ["US equity and options", "CME"]},
    ],
)
def test_what_makes_sense_is_taken(changes: dict[str, Any]) -> None:
    change(**changes)


def test_values_are_kept_in_their_normal_form() -> None:
    profile = change(portalUrl="https://portal:5000/", portalFingerprint=":".join(["AB"] * 32))
    assert profile.portal_url == "https://portal:5000"
    assert profile.portal_fingerprint == "SHA256:" + "ab" * 32


def test_documents_of_older_and_newer_bridges_are_read() -> None:
    assert msgspec.json.decode(b'{"host": "old"}', type=Profile) == Profile(host="old")
    newer = b'{"host": "new", "somethingNewer": {"x": 1}}'
    assert msgspec.json.decode(newer, type=Profile).host == "new"
