"""Combinations: refused when unsafe, said when unwise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from infrastructure.config.gateway import DEAD, refusal
from infrastructure.errors import ConfigError
from infrastructure.render.gateway import environment, jvm_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from infrastructure.config import Target


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"runtime": "sandbox"}, "the host is another one"),
        ({"gateway": {"mode": "both", "paper_username": "p"}}, "1 GB cannot hold"),
        ({"profile": "small", "gateway": {"mode": "both"}}, "'paper_username' is missing"),
        ({"gateway": {"paper_username": "p"}}, "only read with mode 'both'"),
        ({"gateway": {"mode": "live", "read_only": False}}, "trading.live is not set"),
        ({"trading": {"live": True}}, "gateway.mode is paper"),
        (
            {"gateway": {"mode": "live", "read_only": True}, "trading": {"live": True}},
            "gateway.read_only refuses every order",
        ),
        (
            {"gateway": {"auto_restart": "23:00", "auto_logoff": "23:30"}},
            "both set, and the gateway does only one",
        ),
        *(({"folder": folder}, "a folder below / is wanted here") for folder in ("/", "//", "/.")),
        ({"folder": "srv"}, "an absolute path is wanted here"),
        ({"gateway": {"jvm": {"heap": 600}}}, "a heap of 600 MB needs about 888 MB"),
        ({"gateway": {"jvm": {"initial_heap": 300}}}, "more than the heap"),
        ({"gateway": {"jvm": {"options": ["-Dfoo=1"]}}}, "deletes every -D line"),
        ({"gateway": {"jvm": {"options": ["-Xss1m -Xrs"]}}}, "is no single -X option"),
        ({"gateway": {"image": "ghcr.io/gnzsnz/ib-gateway:10.19.2a"}}, "too old"),
        ({"gateway": {"username": "a b"}}, "a user name has only"),
        ({"alerts": {"lost_minutes": 1441}}, "1440"),
        ({"alerts": {"disk_megabytes": 10_000_001}}, "10000000"),
        ({"caddy": {"domain": "203.0.113.7"}}, "caddy.names takes addresses"),
        ({"caddy": {"domain": "2001:db8::1"}}, "caddy.names takes addresses"),
        ({"caddy": {"domain": "0x7f.0.0.1"}}, "caddy.names takes addresses"),
        ({"caddy": {"domain": "trade.example.123"}}, "caddy.names takes addresses"),
        ({"caddy": {"domain": "https://trade.example.org"}}, "is no domain name"),
        ({"caddy": {"domain": "trade.example.org:8443"}}, "is no domain name"),
        (
            {"caddy": {"domain": "trade.example.org", "listen": "::ffff:127.0.0.1"}},
            "needs ports that the world reaches",
        ),
        (
            {"caddy": {"domain": "trade.example.org", "listen": "127.0.0.1"}},
            "needs ports that the world reaches",
        ),
        ({"gateway": {"time_zone": "EST5"}}, "unknown time zone"),
        *(
            ({"trading": {"max_notional": word}}, "finite number")
            for word in ("inf", "nan", "1e400")
        ),
        ({"alerts": {"lost_minutes": 1441}}, "less than or equal to 1440"),
        ({"alerts": {"disk_megabytes": 10_000_001}}, "less than or equal to 10000000"),
        ({"gateway": {"time_zone": "UTC+1"}}, "UTC+1 is called Etc/GMT-1"),
        ({"gateway": {"time_zone": "-05:00"}}, "UTC-5 is called Etc/GMT+5"),
        ({"gateway": {"save_settings": "sometimes"}}, "no schedule for saving"),
        ({"gateway": {"publish_api": "192.0.2.1:4001"}}, "never be on a public address"),
        ({"gateway": {"two_factor": {"timeout_action": "retry"}}}, "must be 'exit' or 'restart'"),
        ({"gateway": {"two_factor": {"totp": {}}}}, "leaves one factor of two"),
        (
            {"gateway": {"two_factor": {"totp": {"i_accept_one_factor": False}}}},
            "leaves one factor of two",
        ),
        (
            {
                "gateway": {
                    "two_factor": {"totp": {"seed": "JBSWY3DP", "i_accept_one_factor": True}}
                }
            },
            "a secret's value does not belong in stack.yaml",
        ),
        (
            {
                "profile": "small",
                "gateway": {
                    "mode": "both",
                    "paper_username": "p",
                    "two_factor": {"totp": {"i_accept_one_factor": True}},
                },
            },
            "one user's codes",
        ),
        ({"caddy": {"http_port": 443}}, "are the same"),
        ({"bridge": {"port": 443}}, "bridge.port and caddy.https_port are the same: 443"),
        ({"gateway": {"publish_api": 8080}}, "gateway.publish_api and bridge.port are the same"),
        ({"gateway": {"publish_api": 80}}, "gateway.publish_api and caddy.http_port are the same"),
        (
            {"runtime": "sandbox", "host": "local", "bridge": {"port": 4099}},
            "simulated.control_port and bridge.port are the same: 4099",
        ),
        ({"caddy": {"domain": "no dots"}}, "is no domain name"),
        ({"caddy": {"domain": ".".join(["abcdefgh"] * 32)}}, "is no domain name"),
        ({"caddy": {"names": ["a b"]}}, "is no name or address"),
        ({"caddy": {"names": ["a..b"]}}, "is no name or address"),
        ({"caddy": {"names": ["a.-b"]}}, "is no name or address"),
        ({"caddy": {"names": ["x" * 64]}}, "is no name or address"),
        ({"caddy": {"names": ["256.1.1.1"]}}, "is no address such as"),
        ({"caddy": {"names": ["fe80::1%eth0"]}}, "for one network card alone"),
        ({"caddy": {"listen": "fe80::1%eth0"}}, "for one network card alone"),
        ({"caddy": {"listen": "224.0.0.1"}}, "is no machine's address"),
        ({"caddy": {"listen": "255.255.255.255"}}, "is no machine's address"),
        ({"caddy": {"listen": "ff02::1"}}, "is no machine's address"),
        ({"caddy": {"max_body": "0MB"}}, "is no size"),
        ({"caddy": {"dial_timeout": "0s"}}, "is no duration"),
        ({"caddy": {"stream_timeout": "0h0m"}}, "is no duration"),
        ({"caddy": {"image": "a//b:2"}}, "is no image with a tag or digest"),
        ({"caddy": {"image": "a:b:c"}}, "is no image with a tag or digest"),
        ({"gateway": {"publish_api": "127.999.1.1:4001"}}, "'127.999.1.1' is no address"),
        ({"gateway": {"publish_api": "127.:4001"}}, "'127.' is no address"),
        ({"gateway": {"save_settings": "Every 0 mins"}}, "no schedule for saving"),
        ({"gateway": {"auto_restart": "\u0662\u0663:30"}}, "is no time of day"),
        ({"gateway": {"time_zone": "posix/America/New_York"}}, "unknown time zone"),
        ({"gateway": {"time_zone": "right/Europe/Berlin"}}, "unknown time zone"),
        ({"gateway": {"jvm": {"options": ["-Xmx1g"]}}}, "is gateway.jvm.heap"),
        ({"gateway": {"jvm": {"options": ["-XX:MaxMetaspaceSize=1g"]}}}, "is gateway.jvm.metasp"),
        ({"bridge": {"admin_key": {"file": "a", "stored": "b"}}}, "exactly one of"),
        ({"host": {"address": "a", "trust_host_key": "MD5:ab"}}, "a fingerprint looks like"),
        ({"trading": {"max_quantity": 0}}, "greater than 0"),
        ({"portal": {"enabled": True}}, "'username' is missing"),
        ({"portal": {"enabled": True, "username": "alice"}}, "end the other's session"),
        ({"portal": {"enabled": True, "username": "Alice"}}, "end the other's session"),
        ({"portal": {"enabled": True, "username": "a $(b)"}}, "a user name has only"),
        ({"portal": {"enabled": True, "url": "https://h:5000"}}, "exclude each other"),
        ({"portal": {"url": "h:5000"}}, "no address of a Client Portal"),
        ({"portal": {"url": "https://h:99999"}}, "no address of a Client Portal"),
        ({"portal": {"url": "https://h:4002"}}, "port 4002 speaks the TWS API, not HTTP"),
    ],
)
def test_refused(make: Callable[..., Target], sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**sections)
    found = [problem for problem in caught.value.problems() if message in problem.message]
    assert found, [problem.message for problem in caught.value.problems()]
    assert found[0].place is not None
    assert found[0].place.line > 0


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ("-XX:+UseG1GC", "collector"),
        ("-XX:-UseSerialGC", "collector"),
        ("-XX:+UseZGC", "collector"),
        ("-XX:-AlwaysPreTouch", "pretouch"),
        ("-XX:-ExitOnOutOfMemoryError", "exit_on_out_of_memory"),
        ("-XX:+AggressiveHeap", "heap"),
        ("-XX:MaxHeapSize=1g", "heap"),
        ("-XX:MinHeapSize=64m", "initial_heap"),
    ],
)
def test_an_option_that_a_key_sets_is_refused(
    make: Callable[..., Target], option: str, key: str
) -> None:
    assert of_options(make, option) == [f"'{option}' is gateway.jvm.{key}: set it there"]


def of_options(make: Callable[..., Target], option: str) -> list[str]:
    """What is said of `gateway.jvm.options` with this one."""
    with pytest.raises(ConfigError) as caught:
        make(gateway={"jvm": {"options": [option]}})
    found = caught.value.problems()
    return [each.message for each in found if each.place and "jvm.options" in each.place.path]


@pytest.mark.parametrize("collector", ["serial", "g1", "parallel"])
def test_what_a_key_writes_no_option_may_say(make: Callable[..., Target], collector: str) -> None:
    for option in jvm_options(make(gateway={"jvm": {"collector": collector}}).stack):
        assert "is gateway.jvm." in of_options(make, option)[0]


def test_other_options_are_passed_on(make: Callable[..., Target]) -> None:
    options = (
        *("-XX:+UseStringDeduplication", "-XX:-UseGCOverheadLimit", "-XX:G1HeapRegionSize=1m"),
        *("-XX:+UseAdaptiveSizePolicyWithSystemGC", "-XX:MetaspaceSize=32m", "-Xss1m"),
    )
    target = make(gateway={"username": "alice", "jvm": {"options": list(options)}})
    assert jvm_options(target.stack)[-6:] == options


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"gateway": {"jvm": {"heap": 200}}}, "less than what is known to work"),
        ({"gateway": {"existing_session": "manual"}}, "hangs until a person clicks"),
        ({"gateway": {"accept_incoming": "manual"}}, "hangs until a person clicks"),
        ({"gateway": {"mode": "live", "cold_restart": "off"}}, "first auto-restart after Sunday"),
        (
            {"gateway": {"mode": "live", "auto_restart": "02:00", "cold_restart": "18:00"}},
            "the cold restart at 18:00 is not between",
        ),
        (
            {
                "gateway": {
                    "mode": "live",
                    "time_zone": "Pacific/Honolulu",
                    "auto_restart": "23:30",
                }
            },
            "no Sunday time in Pacific/Honolulu",
        ),
        (
            {"gateway": {"controller": "ibg-controller", "cold_restart": "09:00"}},
            "nobody restarts the gateway at 09:00: ibg-controller",
        ),
        ({"portal": {"enabled": True, "username": "second"}}, "a second Java machine"),
        ({"caddy": {"domain": "trade.example.org", "https_port": 8443}}, "on port 443"),
        ({"caddy": {"domain": "trade.example.org", "http_port": 8090}}, "on port 80,"),
        ({"gateway": {"auto_logoff": "10:00"}}, "shares trade from 09:30 to 16:00"),
        (
            {"gateway": {"time_zone": "Europe/Berlin", "auto_logoff": "16:00"}},
            "is 10:00 in America/New_York",
        ),
        (
            {"gateway": {"time_zone": "Asia/Tokyo", "auto_logoff": "09:30"}},
            "is 09:30 in Asia/Tokyo",
        ),
        ({"gateway": {"auto_logoff": "09:25"}}, "auto_logoff 09:25 is 09:25 in America/New_York"),
        (
            {"gateway": {"time_zone": "Europe/Madrid", "auto_logoff": "10:00"}},
            "is 10:00 in Europe/Berlin",
        ),
        (
            {"gateway": {"time_zone": "Asia/Seoul", "auto_logoff": "10:00"}},
            "is 10:00 in Asia/Tokyo",
        ),
        # unset, it is 23:30 in New York
        ({"gateway": {"time_zone": "Asia/Tokyo"}}, "auto_logoff 12:30 is 12:30 in Asia/Tokyo"),
        (
            {"gateway": {"mode": "live", "time_zone": "Asia/Hong_Kong"}},
            "auto_restart 11:30 is 11:30 in Asia/Hong_Kong",
        ),
        ({"caddy": {"domain": "trade.local"}}, "no public authority signs trade.local"),
        ({"caddy": {"domain": "trade.home.arpa"}}, "no public authority signs"),
        ({"gateway": {"mode": "live", "auto_logoff": "23:30"}}, "an approval every night"),
        ({"gateway": {"time_zone": "Etc/GMT+1"}}, "Etc/GMT+1 is UTC-1"),
        ({"gateway": {"bypass_order_warnings": False}}, "waits for a click on its screen"),
        ({"bridge": {"session": "live"}}, "bridge.session: live does nothing"),
        ({"limits": {"gateway_swap": 100}}, "640 MB holds, without swap"),
        ({"limits": {"gateway": 700, "gateway_swap": 699}}, "700 MB holds, without swap"),
        ({"limits": {"portal": 300}}, "limits.portal does nothing"),
        ({"alerts": {"events": ["disk-low"]}}, "alerts.events does nothing"),
        ({"alerts": {"lost_minutes": 1}}, "alerts.lost_minutes does nothing"),
        ({"alerts": {"disk_megabytes": 500}}, "alerts.disk_megabytes does nothing"),
        (
            {"caddy": {"names": ["a.lan"], "domain": "trade.example.org"}},
            "caddy.names does nothing",
        ),
        ({"caddy": {"email": "me@example.org"}}, "caddy.email does nothing"),
        ({"gateway": {"paper_password": {"stored": "other"}}}, "gateway.paper_password does"),
        ({"portal": {"username": "second"}}, "portal.username does nothing"),
        ({"trading": {"undefined_loss": "allow"}}, "trading.undefined_loss does nothing"),
        ({"simulated": {"tws_port": 4012}}, "simulated.tws_port does nothing"),
        (
            {"trading": {"answer_within_seconds": 60}},
            "within 60 s, and Caddy waits no longer than 35s",
        ),
        ({"caddy": {"response_timeout": "9s500ms"}}, "within 10 s, and Caddy waits no longer than"),
    ],
)
def test_warned(make: Callable[..., Target], sections: dict[str, Any], message: str) -> None:
    warnings = make(**sections).warnings
    assert any(message in warning.message for warning in warnings), warnings


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "Asia/Singapore", "Australia/Sydney", "UTC"])
def test_the_time_that_a_warning_names_is_not_warned_of(
    make: Callable[..., Target], zone: str
) -> None:
    """Held against the clock of an exchange that the zone has, and New York's."""
    asked = {"time_zone": zone, "auto_logoff": "15:00" if zone == "UTC" else "11:00"}
    (warning,) = make(gateway=asked).warnings
    assert "shares trade" in warning.message
    named = warning.hint.partition(" ")[0]
    assert make(gateway={**asked, "auto_logoff": named}).warnings == ()


def test_nothing_is_said_of_the_defaults(make: Callable[..., Target]) -> None:
    assert make().warnings == ()
    assert make(gateway={"mode": "live"}).warnings == ()
    assert make(gateway={"mode": "live"}, trading={"live": True}).warnings == ()
    reads = {"read_only": True, "bypass_order_warnings": False}
    assert make(gateway=reads).warnings == ()
    used: dict[str, Any] = {
        "bridge": {"session": "paper"},
        "limits": {"gateway_swap": 640},
        "alerts": {"events": []},
        "caddy": {"names": [], "domain": "trade.example.org", "email": "me@example.org"},
    }
    assert make(**used).warnings == ()
    told: dict[str, Any] = {"urls": [{"stored": "alert-url"}], "events": ["disk-low"]}
    told |= {"lost_minutes": 1, "disk_megabytes": 500}
    assert make(alerts=told, caddy={"names": ["a.lan"]}).warnings == ()
    patient = {"trading": {"answer_within_seconds": 60}, "caddy": {"response_timeout": "1m1s"}}
    assert make(**patient).warnings == ()
    other = {"controller": "ibg-controller", "cold_restart": "off"}
    assert make(gateway={"mode": "live", **other}).warnings == ()


@pytest.mark.parametrize(
    "name",
    [
        *DEAD,
        "IBC_TradingMode",
        "TWS_PASSWORD",
        "TWS_PASSWORD_PAPER_FILE",
        "VNC_SERVER_PASSWORD",
        "TWS_USERID",
        "TZ",
        "TWS_SETTINGS_PATH",
        "1X",
        "SSH_TUNNEL",
        "SSH_OPTIONS",
        "USE_IBG_CONTROLLER",
        "CONTROLLER_COMMAND_SERVER_HOST",
        "CONTROLLER_COMMAND_SERVER_AUTH_TOKEN",
        "PATH",
        "SHELLOPTS",
        "LD_PRELOAD",
        "LD_AUDIT",
        "LD_DEBUG",
        "BASH_XTRACEFD",
        "UID",
        "IFS",
        "GANGWAY_ANYTHING",
        "CONTROLLER_COMMAND_SERVER_ANYTHING",
        "TWSPASSWORD",
        "FIXPASSWORD",
        "pid",
        "mode",
        "tws_version",
        "java_path",
        "ib_password",
        "ibc_classpath",
    ],
)
def test_variables_that_are_refused_say_why(make: Callable[..., Target], name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(gateway={"environment": {name: "x"}})
    problem = next(p for p in caught.value.problems() if p.code == "dead-variable")
    assert problem.hint
    assert problem.place is not None
    assert problem.place.path == f"gateway.environment.{name}"


def test_a_variable_of_the_gateway_that_looks_like_a_secret_is_told(
    make: Callable[..., Target],
) -> None:
    passed = {"https_proxy": "http://10.0.0.1:3128", "MY_API_TOKEN": "x"}
    (told,) = make(gateway={"environment": passed}).warnings
    assert "MY_API_TOKEN looks like a secret" in told.message
    assert told.place is not None
    assert told.place.path == "gateway.environment.MY_API_TOKEN"


@pytest.mark.parametrize(
    "gateway",
    [
        {"mode": "live", "two_factor": {"device": "IB Key"}},
        {"mode": "both", "paper_username": "bob", "save_settings": "Every 30 mins"},
        {
            "controller": "ibg-controller",
            "two_factor": {"totp": {"i_accept_one_factor": True}},
        },
    ],
)
def test_whatever_is_set_for_the_image_is_refused(
    make: Callable[..., Target], gateway: dict[str, Any]
) -> None:
    set_by_us = environment(make(profile="standard", gateway=gateway), "alice")
    assert [name for name in set_by_us if refusal(name) is None] == []


def test_what_the_start_hooks_read_is_refused() -> None:
    """Else a variable could take away what spaces logins out, or move what is held."""
    folder = Path(__file__).parents[2] / "templates" / "gateway"
    read = set()
    for file in folder.rglob("*"):
        if file.is_file():
            read |= set(re.findall(r"GANGWAY_[A-Z_]+", file.read_text()))
    assert "GANGWAY_NEW_YORK" in read
    assert [name for name in sorted(read) if refusal(name) is None] == []


@pytest.mark.parametrize("name", ["X_SCRIPTS", "IBC_SCRIPTS", "MY_OWN"])
def test_other_variables_pass(name: str) -> None:
    assert refusal(name) is None


@pytest.mark.parametrize(
    "sections",
    [
        # Another address, another family: the same number is no conflict.
        {"caddy": {"listen": "192.0.2.7"}, "bridge": {"port": 443}},
        {"gateway": {"publish_api": "[::1]:443"}},
        {"caddy": {"image": "localhost:5000/a/b_c__d-e.f:2"}},
        {"caddy": {"image": "Registry.example.org/caddy@sha256:" + "a" * 64}},
        {"caddy": {"names": ["localhost", "192.0.2.7", "::1", "trade.lan"], "max_body": "10MB"}},
        {"caddy": {"dial_timeout": "1m0s"}},
        {"folder": "/srv//stacks/"},
    ],
)
def test_taken(make: Callable[..., Target], sections: dict[str, Any]) -> None:
    assert make(**sections).stack
