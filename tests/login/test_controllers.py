"""The real controllers drive the stand-in of IBKR's program."""

import time
from collections.abc import Callable

import pytest

from tests.login.captures import CAPTURES, LOGS
from tests.login.parts.session import Session

Make = Callable[..., Session]
pytestmark = [pytest.mark.controllers, pytest.mark.timeout(180)]


def test_every_capture_is_kept() -> None:
    wanted = {
        f"{name}.{controller}{launcher}.log"
        for name, capture in CAPTURES.items()
        for controller in ("ibc", "ibcontroller")
        if controller not in capture.without
        for launcher in ("", ".launcher")
    }
    kept = {path.name.replace(".launcher.log", ".ibc.launcher.log") for path in LOGS.iterdir()}
    kept = {name.replace(".ibcontroller.ibc.", ".ibcontroller.") for name in kept}
    assert kept == wanted


def test_ibc_logs_in_and_a_saved_session_types_no_password(make_session: Make) -> None:
    session = make_session(variables={"TRADING_MODE": "live"})
    session.start_ibc()
    session.wait_for("Configuration tasks completed")
    session.until(lambda: "login complete" in session.record(), "not logged in")
    session.do("restart")
    session.wait_for("IBC: Login has completed", 2)
    assert session.record("typed") == ["typed password"]
    assert session.record("token") == ["token accepted"]
    assert not list(session.tws.glob("*/autorestart")), "it is used up"
    order = ["IBC returned exit status 0", "autorestart file found", "IBC will restart shortly"]
    places = [session.log.index(words) for words in [*order, "Re-starting session"]]
    assert places == sorted(places)


@pytest.mark.parametrize("spoil", ["last week", "misplaced", "garbage"])
def test_only_a_saved_session_of_this_week_in_its_place_counts(
    make_session: Make, spoil: str
) -> None:
    session = make_session("ok")
    folder = session.tws / "abcdefghijklmnop"
    folder.mkdir()
    text = {
        "last week": f"issued={int(time.time()) - 8 * 86400}\n",
        "misplaced": f"issued={int(time.time())}\n",
        "garbage": "token",
    }[spoil]
    place = session.tws if spoil == "misplaced" else folder
    (place / "autorestart").write_text(text)
    session.start_ibc()
    if spoil == "misplaced":
        session.wait_for("IBC: Login has completed")
        assert session.record("typed") == ["typed password"], "one level up nobody finds it"
        return
    session.wait_for("entitled: Unrecognized Username or Password; event=Opened")
    assert session.record("typed") == []
    assert session.record("token") == ["token refused"]


def test_pause_keeps_the_saved_session(make_session: Make) -> None:
    session = make_session(
        "ok", settings={"CommandServerPort": "17462", "BindAddress": "127.0.0.1"}
    )
    session.start_ibc()
    session.wait_for("Configuration tasks completed")
    assert session.command("PAUSE", 17462).startswith("OK")
    assert session.ended() == 0
    assert "IBC is paused" in session.log
    session.start_ibc()
    session.wait_for("IBC: Login has completed", 2)
    assert session.record("typed") == ["typed password"]
    assert session.record("token") == ["token accepted"]


def test_ibcontroller_never_tries_a_refused_password_twice(make_session: Make) -> None:
    session = make_session("refused")
    session.start_ibcontroller()
    assert session.ended() == 77
    assert session.record("typed") == ["typed password"]


def test_ibc_leaves_a_refused_password_on_the_screen(make_session: Make) -> None:
    session = make_session("refused")
    session.start_ibc()
    session.wait_for("entitled: Unrecognized Username or Password; event=Opened")
    time.sleep(2)
    assert session.process
    assert session.process.poll() is None
    assert session.record("typed") == ["typed password"]


def test_ibc_tries_a_transient_refusal_without_a_pause(make_session: Make) -> None:
    """Why the kit has to space them out: the script's own pause is only echoed."""
    session = make_session("failed")
    session.start_ibc()
    session.until(lambda: len(session.record("typed")) >= 3, "not tried again", 60)
    assert "IBC will restart shortly" in session.log


def test_an_approval_completes_the_login(make_session: Make) -> None:
    session = make_session("twofa", variables={"TRADING_MODE": "live"})
    session.start_ibc()
    session.wait_for("Second Factor Authentication initiated")
    session.until(lambda: "Received CHALLENGE" in session.launcher, "not in launcher.log")
    session.approve()
    session.wait_for("IBC: Login has completed")
    session.until(
        lambda: "tokenProtocol=5; authenticated=true" in session.launcher, "not in launcher.log"
    )
    session.until(
        lambda: "Switching to a new encrypted log" in session.launcher, "not in launcher.log"
    )


def test_blanks_around_a_password_do_not_pass_ibc(make_session: Make) -> None:
    """The stand-in refuses the password `wrong`: IBC has cut the blanks off."""
    session = make_session("ok", variables={"TWS_PASSWORD": " wrong "})
    session.start_ibc()
    session.wait_for("entitled: Unrecognized Username or Password; event=Opened")


def test_blanks_around_a_password_pass_ibcontroller(make_session: Make) -> None:
    session = make_session("ok", variables={"TWS_PASSWORD": " wrong "})
    session.start_ibcontroller()
    session.wait_for("startup state: APPLYING_SETTINGS -> READY")
