"""Who is told: the addresses reach the bridge as one secret file, and nothing else does."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest

from bridge.alerts.messages import AlertKind
from bridge.environment import _VARIABLES, read
from infrastructure.config import secrets
from infrastructure.config.bridge import AlertEvent
from infrastructure.errors import UsageError
from infrastructure.render import bridge, release
from infrastructure.render.layout import compose_layout
from tests.deploy.conftest import SECRET_VALUES

if TYPE_CHECKING:
    from collections.abc import Callable

    from infrastructure.config import Target

ADDRESSES = {"alert-url-1": b"ntfy://one\n", "alert-url-2": b"discord://two/token"}


def with_alerts(make: Callable[..., Target]) -> Target:
    urls = [{"stored": "phone"}, {"stored": "chat"}]
    return make(
        alerts={"urls": urls, "lost_minutes": 3, "disk_megabytes": 700, "events": ["waiting-2fa"]}
    )


def test_the_addresses_are_one_secret_file(make: Callable[..., Target]) -> None:
    target = with_alerts(make)
    needed = secrets.needed(target)
    assert set(ADDRESSES) <= set(needed)
    made = release(target, {**SECRET_VALUES, **ADDRESSES})
    file = next(each for each in made.files if each.path == "secrets/bridge-alerts")
    assert file.content == b"ntfy://one\ndiscord://two/token\n"
    assert (file.mode, file.secret, file.services) == (0o400, True, ("bridge",))
    for each in made.files:
        assert each.secret or b"discord:" not in each.content


def test_the_bridge_is_told_where_the_file_is(make: Callable[..., Target]) -> None:
    target = with_alerts(make)
    values = bridge.environment(target, compose_layout(target))
    told = {name: text for name, text in values.items() if name.startswith("BRIDGE_ALERT")}
    assert told == {
        "BRIDGE_ALERTS_FILE": "/run/secrets/bridge-alerts",
        "BRIDGE_ALERT_DISK_MB": "700",
        "BRIDGE_ALERT_LOST_MINUTES": "3",
        "BRIDGE_ALERT_EVENTS": "waiting-2fa",
    }
    assert told.keys() <= _VARIABLES.keys()


def test_without_addresses_nothing_changes(make: Callable[..., Target]) -> None:
    target = make()
    assert bridge.secret_names(target) == ["bridge-admin-key"]
    assert "BRIDGE_ALERTS_FILE" not in bridge.environment(target, compose_layout(target))


def test_every_event_of_the_configuration_is_one_of_the_bridges() -> None:
    assert {*get_args(AlertEvent)} == {kind.value for kind in AlertKind if kind != "test"}


@pytest.mark.parametrize(("key", "most"), [("lost_minutes", 1440), ("disk_megabytes", 10_000_000)])
def test_the_bridge_takes_what_the_configuration_takes(
    make: Callable[..., Target], key: str, most: int
) -> None:
    target = make(alerts={"urls": [{"stored": "phone"}], key: most})
    values = bridge.environment(target, compose_layout(target))
    told = {name: text for name, text in values.items() if name.startswith("BRIDGE_ALERT_")}
    assert str(most) in told.values()
    read(told)


def test_an_address_is_one_line() -> None:
    with pytest.raises(UsageError, match="more than one line") as raised:
        secrets.alert_address(b"ntfy://topic\nand a note", "alert-url")
    assert "topic" not in str(raised.value)
