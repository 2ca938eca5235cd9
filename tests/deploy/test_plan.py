"""Plans: what is and what should be, compared without a host."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING

import pytest

from infrastructure.plan import causes
from infrastructure.plan.compute import back_to, compute
from infrastructure.plan.forecast import week_began
from infrastructure.plan.observed import Observed, ObservedFile, ObservedService
from infrastructure.render.model import RenderedFile
from infrastructure.runtime.containers import actions as actions_of
from tests.deploy.conftest import rendered

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from infrastructure.config import Target
    from infrastructure.plan.compute import Plan
    from infrastructure.render.model import Release
    from infrastructure.runtime.containers import Action


def copy(text: str) -> str:
    """Another object of the same characters, as whatever comes from a host is."""
    return text.encode().decode()


def observe(release: Release, **states: str) -> Observed:
    """The release as it lies on a host, all services running."""
    files = {
        copy(file.path): ObservedFile(copy(file.digest), None if file.secret else file.content)
        for file in release.files
    }
    services = {
        service.name: ObservedService(
            copy(service.name),
            copy(states.get(service.name, "running")),
            "healthy",
            copy(service.image),
            hash=copy(service.hash),
            exit_code=1 if states.get(service.name) == "exited" else None,
        )
        for service in release.services
    }
    return Observed(copy(release.id), files, services)


def plan(before: Target, after: Target) -> Plan:
    return compute(after, rendered(after), observe(rendered(before)))


def actions(found: Plan) -> dict[str, str]:
    return {change.service: change.action for change in found.changes}


def cause(found: Plan, service: str) -> str:
    return next(change.cause for change in found.changes if change.service == service)


def test_first_deploy_creates_everything_and_expects_approval(make: Callable[..., Target]) -> None:
    target = make()
    found = compute(target, rendered(target), Observed())
    assert actions(found) == {"gateway": "create", "bridge": "create", "caddy": "create"}
    assert found.forecast.expected
    assert found.as_json()["changed"] is True


def test_same_again_changes_nothing(make: Callable[..., Target]) -> None:
    found = plan(make(), make())
    assert not found.changed
    assert not found.forecast.expected
    assert set(actions(found).values()) == {"unchanged"}


@pytest.mark.parametrize(
    ("change", "service", "because"),
    [
        ({"gateway": {"jvm": {"heap": 300}}}, "gateway", "gateway/jvm.options changed"),
        (
            {"gateway": {"existing_session": "secondary"}},
            "gateway",
            "environment EXISTING_SESSION_DETECTED_ACTION",
        ),
        (
            {"gateway": {"image": "ghcr.io/gnzsnz/ib-gateway:10.45.1j"}},
            "gateway",
            "image ghcr.io/gnzsnz/ib-gateway:stable -> ghcr.io/gnzsnz/ib-gateway:10.45.1j",
        ),
        ({"trading": {"max_quantity": 5}}, "bridge", "bridge/trading.json changed"),
        ({"bridge": {"log_level": "debug"}}, "bridge", "environment BRIDGE_LOG_LEVEL"),
        ({"caddy": {"max_body": "2MB"}}, "caddy", "caddy/Caddyfile changed"),
        ({"limits": {"caddy": 100}}, "caddy", "mem_limit changed"),
    ],
)
def test_a_change_touches_only_the_service_that_reads_it(
    make: Callable[..., Target], change: dict[str, object], service: str, because: str
) -> None:
    found = plan(make(), make(**change))
    changed = [change.service for change in found.changes if change.action != "unchanged"]
    assert changed == [service]
    assert because in cause(found, service)
    assert found.forecast.expected == (service == "gateway")


def test_a_text_change_is_shown_as_a_diff(make: Callable[..., Target]) -> None:
    found = plan(make(), make(gateway={"jvm": {"heap": 300}}))
    diff = found.changes[0].diff
    assert "--- gateway/jvm.options (now)" in diff
    assert "-Xmx256m\n" in diff
    assert "+-Xmx300m\n" in diff


def test_a_setting_is_shown_as_a_diff_of_the_service(make: Callable[..., Target]) -> None:
    found = plan(make(), make(bridge={"log_level": "debug"}))
    diff = found.changes[1].diff
    assert "-  BRIDGE_LOG_LEVEL: info\n" in diff
    assert "+  BRIDGE_LOG_LEVEL: debug\n" in diff
    assert "gangway.hash" not in diff


def test_the_sandbox_is_planned_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from infrastructure.config import load
    from infrastructure.config.target import Target

    monkeypatch.setenv("GANGWAY_SANDBOX_DIR", str(tmp_path))
    before = load(None, "sandbox")
    bridge = before.stack.bridge.model_copy(update={"log_level": "debug"})
    after = Target(before.name, before.stack.model_copy(update={"bridge": bridge}))
    found = plan(before, after)
    assert actions(found) == {"gateway": "unchanged", "bridge": "update", "caddy": "unchanged"}
    assert cause(found, "bridge") == "environment BRIDGE_LOG_LEVEL"
    assert not found.forecast.expected


def test_a_secret_is_named_but_never_shown(make: Callable[..., Target]) -> None:
    target = make()
    release = rendered(target)
    old = dataclasses.replace(release.file("secrets/tws-password"), content=b"earlier-password")
    before = observe(release)
    service = dataclasses.replace(before.services["gateway"], hash="different")
    observed = Observed(
        "old",
        {**before.files, "secrets/tws-password": ObservedFile(old.digest)},
        {**before.services, "gateway": service},
    )
    found = compute(target, release, observed)
    assert cause(found, "gateway") == "secret tws-password changed"
    assert found.changes[0].diff == "secret tws-password changed\n"
    assert "pa\\ss" not in repr(found)
    assert "earlier-password" not in repr(observed)


def test_changed_sources_are_counted(make: Callable[..., Target]) -> None:
    target = make()
    release = rendered(target)
    before = observe(release)
    files = {
        path: ObservedFile("old") if path.startswith("image/") else file
        for path, file in before.files.items()
    }
    service = dataclasses.replace(before.services["bridge"], hash="old", image="old")
    observed = Observed("old", files, {**before.services, "bridge": service})
    found = compute(target, release, observed)
    count = sum(path.startswith("image/") for path in files)
    assert cause(found, "bridge") == f"{count} source files changed"


def test_a_stopped_service_is_started_again(make: Callable[..., Target]) -> None:
    target = make()
    release = rendered(target)
    found = compute(target, release, observe(release, gateway="exited"))
    assert actions(found)["gateway"] == "restart"
    assert cause(found, "gateway") == "it is exited (exit code 1)"
    assert found.forecast.expected


def test_a_service_that_is_no_longer_wanted_is_removed(make: Callable[..., Target]) -> None:
    target = make()
    release = rendered(target)
    before = observe(release)
    extra = ObservedService("portal", "running")
    found = compute(
        target,
        release,
        Observed(release.id, before.files, {**before.services, "portal": extra}),
    )
    assert actions(found)["portal"] == "remove"
    assert not found.forecast.expected


def test_who_is_asked_for_approval(make: Callable[..., Target]) -> None:
    target = make(gateway={"two_factor": {"asked": False}})
    found = compute(target, rendered(target), Observed())
    assert not found.forecast.expected
    assert "two_factor.asked" in found.forecast.reason


def test_codes_that_are_typed_ask_nobody(make: Callable[..., Target]) -> None:
    target = make(gateway={"two_factor": {"totp": {"i_accept_one_factor": True}}})
    found = compute(target, rendered(target), Observed())
    assert not found.forecast.expected
    assert "two_factor.totp" in found.forecast.reason


def test_a_file_that_no_service_reads_is_pushed_and_touches_no_service(
    make: Callable[..., Target],
) -> None:
    target = make()
    before = rendered(target)
    loose = RenderedFile("notes.txt", b"one")
    changed = dataclasses.replace(loose, content=b"two")
    was = observe(dataclasses.replace(before, files=(*before.files, loose)))
    now = dataclasses.replace(before, id="another", files=(*before.files, changed))
    found = compute(target, now, was)
    assert set(actions(found).values()) == {"unchanged"}
    assert found.file_changes == ("notes.txt",)
    assert found.changed
    same = dataclasses.replace(now, files=(*before.files, loose))
    assert not compute(target, same, was).changed


def test_a_rollback_is_planned_by_the_same_rules(make: Callable[..., Target]) -> None:
    target = make()
    runs = observe(rendered(target), bridge="exited").services
    earlier = {"gateway": "another", "bridge": runs["bridge"].hash, "caddy": runs["caddy"].hash}
    found = actions_of(earlier, {**runs, "portal": ObservedService("portal", "running")})
    assert found == {
        "gateway": "update",
        "bridge": "restart",
        "caddy": "unchanged",
        "portal": "remove",
    }
    now = observe(rendered(target))
    plan = back_to(target, now, "r1", found, "")
    assert plan.forecast.expected
    assert plan.as_json()["changed"] is True
    for name, expected in (("caddy", False), ("gateway", True), ("portal", False)):
        only: dict[str, Action] = {name: "update"}
        assert back_to(target, now, "r1", only, "").forecast.expected is expected
    for other in ("0", "~"):
        assert back_to(target, now, other, {}, "").file_changes == ("release.json",)
    assert back_to(target, now, copy(str(now.release)), {}, "").file_changes == ()
    kept = back_to(target, now, "r1", {"bridge": "update"}, "")
    assert kept.changed
    assert not kept.forecast.expected
    assert not back_to(target, dataclasses.replace(now, release="r1"), "r1", {}, "").changed


def test_a_rollback_into_another_account_says_so(make: Callable[..., Target]) -> None:
    """stack.yaml has the paper user's settings, whose logins are not asked for an approval."""
    live = {"mode": "live", "username": "alice", "read_only": False}
    earlier = rendered(make(gateway=live, trading={"live": True}))
    target = make(gateway={"username": "papa", "two_factor": {"asked": False}})
    definition = earlier.file(earlier.definition).content.decode()
    now = observe(rendered(target))
    found = back_to(target, now, "r1", {"gateway": "update", "bridge": "update"}, definition)
    causes_of = {change.service: change.cause for change in found.changes}
    assert causes_of == {
        "gateway": "as in release r1: mode paper -> live, user papa -> alice",
        "bridge": "as in release r1",
    }
    assert found.forecast.expected
    assert "(live)" in found.forecast.reason
    same = rendered(target)
    kept = back_to(
        target, now, "r1", {"gateway": "update"}, same.file(same.definition).content.decode()
    )
    assert kept.changes[0].cause == "as in release r1"
    assert not kept.forecast.expected


SATURDAY = 1_795_874_400.0
"""2026-11-28 14:00 UTC, 09:00 in New York."""
LIVE = {"mode": "live", "jvm": {"heap": 300}}


def with_login(before: Target, **login: object) -> Observed:
    known = {"session": "live", "state": "logged-in", "since": SATURDAY - 3600, "parks": True}
    logins = ({**known, **login},)
    found = observe(rendered(before))
    return dataclasses.replace(found, logins=logins, time=SATURDAY)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "new", "login", "why"),
    [
        ({"mode": "live"}, LIVE, {}, None),
        ({"mode": "live"}, {**LIVE, "image": "ghcr.io/gnzsnz/ib-gateway:10.45.1j"}, {}, None),
        ({"mode": "live"}, LIVE, {"since": SATURDAY - 5 * 86_400}, None),
        ({"mode": "live"}, LIVE, {"since": SATURDAY - 7 * 86_400}, "ends the week's session"),
        ({"mode": "live"}, LIVE, {"state": "waiting-2fa"}, "not logged in now"),
        ({"mode": "live"}, LIVE, {"state": "held"}, "not logged in now"),
        ({"mode": "live"}, LIVE, {"parks": False}, "made by an earlier release"),
        ({"mode": "live"}, {**LIVE, "username": "bob"}, {}, "another user or mode"),
        ({"mode": "paper"}, LIVE, {}, "another user or mode"),
        ({"mode": "live"}, {"mode": "paper"}, {}, "a paper session is logged off"),
        ({"mode": "live"}, {**LIVE, "controller": "ibg-controller"}, {}, "keeps no session"),
    ],
)
def test_a_live_session_goes_over_to_the_new_container(
    make: Callable[..., Target],
    now: dict[str, object],
    new: dict[str, object],
    login: dict[str, object],
    why: str | None,
) -> None:
    found = with_login(make(gateway=now), **login)
    after = make(gateway=new)
    forecast = compute(after, rendered(after), found).forecast
    assert forecast.token == (why is None)
    assert forecast.expected == (why is not None)
    if why is None:
        assert forecast.line.startswith("2FA: no approval expected (token): ")
    else:
        assert forecast.line.startswith("2FA: approval expected: ")
        assert why in forecast.line


def test_codes_that_gangway_types_need_no_token_but_use_one(make: Callable[..., Target]) -> None:
    totp = {"two_factor": {"totp": {"i_accept_one_factor": True}}}
    after = make(gateway={**LIVE, **totp})
    found = with_login(make(gateway={"mode": "live", **totp}))
    assert compute(after, rendered(after), found).forecast.token
    gone = with_login(make(gateway={"mode": "live", **totp}), state="stopped")
    forecast = compute(after, rendered(after), gone).forecast
    assert (forecast.expected, forecast.token) == (False, False)
    assert "two_factor.totp" in forecast.reason


@pytest.mark.parametrize(("skew", "expected"), [(0.4, False), (-19.0, False), (40.0, True)])
def test_codes_by_a_wrong_clock_are_not_counted_on(
    make: Callable[..., Target], skew: float, expected: bool
) -> None:
    target = make(gateway={"two_factor": {"totp": {"i_accept_one_factor": True}}})
    forecast = compute(target, rendered(target), Observed(skew=skew)).forecast
    assert forecast.expected == expected
    assert ("clock is 40 s off" in forecast.reason) == expected


def test_a_token_is_not_counted_on_over_the_end_of_the_week(make: Callable[..., Target]) -> None:
    after = make(gateway=LIVE)
    found = with_login(make(gateway={"mode": "live"}))
    ends = SATURDAY + 16 * 3600  # Sunday 01:00 in New York
    for moment, token in ((ends - 700, True), (ends - 300, False), (ends + 60, False)):
        later = dataclasses.replace(found, time=moment)
        assert compute(after, rendered(after), later).forecast.token == token
    afresh = with_login(make(gateway={"mode": "live"}), since=ends + 3600)
    assert compute(
        after, rendered(after), dataclasses.replace(afresh, time=ends + 7200)
    ).forecast.token


def test_a_login_in_the_brokers_maintenance_is_told_before_it_begins(
    make: Callable[..., Target],
) -> None:
    """01:00 New York: it may be refused, and the next attempt comes twenty minutes later."""
    after = make(gateway=LIVE)
    found = with_login(make(gateway={"mode": "live"}))
    night = dt.datetime.fromisoformat("2026-11-24T06:00:00Z").timestamp()
    line = compute(after, rendered(after), dataclasses.replace(found, time=night)).forecast.line
    assert "IBKR's maintenance is under way until 06:45 UTC" in line
    for later in (night + 2700, night - 2701):
        seen = dataclasses.replace(found, time=later)
        assert "maintenance" not in compute(after, rendered(after), seen).forecast.line
    nothing = dataclasses.replace(observe(rendered(after)), time=night)
    assert "maintenance" not in compute(after, rendered(after), nothing).forecast.line


@pytest.mark.parametrize(
    ("now", "began"),
    [
        ("2026-11-29T06:00:00Z", "2026-11-29T06:00:00Z"),  # winter: Sunday 01:00 is 06:00 UTC
        ("2026-11-29T05:59:59Z", "2026-11-22T06:00:00Z"),
        ("2026-07-08T12:00:00Z", "2026-07-05T05:00:00Z"),  # summer: 05:00 UTC
        ("2026-03-08T12:00:00Z", "2026-03-08T06:00:00Z"),  # the clock is changed an hour later
        ("2026-11-01T12:00:00Z", "2026-11-01T05:00:00Z"),
    ],
)
def test_when_the_week_began(now: str, began: str) -> None:
    moment = dt.datetime.fromisoformat(now).timestamp()
    assert week_began(moment) == dt.datetime.fromisoformat(began).timestamp()


# --- the words of a cause, exactly -------------------------------------------------------------
def cause_after(make: Callable[..., Target], change: Callable[[Observed], Observed]) -> Plan:
    """The plan of the same configuration over what a host says differently."""
    target = make()
    return compute(target, rendered(target), change(observe(rendered(target))))


def without(observed: Observed, *paths: str, **more: bytes | None) -> Observed:
    files = {path: file for path, file in observed.files.items() if path not in paths}
    added = {
        path.replace("__", "/"): ObservedFile("another", content) for path, content in more.items()
    }
    stale = {
        name: dataclasses.replace(service, hash="another")
        for name, service in observed.services.items()
    }
    return dataclasses.replace(observed, release="before", files={**files, **added}, services=stale)


def test_a_file_of_the_services_folder_that_goes_is_named(make: Callable[..., Target]) -> None:
    found = cause_after(make, lambda seen: without(seen, caddy__old=b"x"))
    assert cause(found, "caddy") == "caddy/old is gone"
    assert "is gone" not in cause(found, "bridge")


def test_one_source_file_is_no_plural(make: Callable[..., Target]) -> None:
    name = "image/bridge/clock.py"
    found = cause_after(
        make,
        lambda seen: dataclasses.replace(
            without(seen), files={**seen.files, name: ObservedFile("another", b"")}
        ),
    )
    assert cause(found, "bridge") == "1 source file changed"


def test_without_a_difference_the_cause_is_not_made_up(make: Callable[..., Target]) -> None:
    target = make()
    release = rendered(target)
    seen = without(observe(release))
    found = compute(target, release, seen)
    assert cause(found, "caddy") != "an earlier deploy left it alone"
    again = compute(target, release, dataclasses.replace(seen, release=release.id))
    assert cause(again, "caddy") == "an earlier deploy left it alone"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_what_is_no_text_has_no_diff_of_lines(
    make: Callable[..., Target], content: bytes | None
) -> None:
    name = "caddy/Caddyfile"
    found = cause_after(
        make,
        lambda seen: dataclasses.replace(
            without(seen), files={**seen.files, name: ObservedFile("another", content)}
        ),
    )
    change = next(each for each in found.changes if each.service == "caddy")
    assert change.cause == "caddy/Caddyfile changed"
    assert "@@" not in change.diff


def test_a_long_diff_is_cut_and_counted(make: Callable[..., Target]) -> None:
    name = "caddy/Caddyfile"
    text = "".join(f"old {number}\n" for number in range(2000)).encode()
    found = cause_after(
        make,
        lambda seen: dataclasses.replace(
            without(seen), files={**seen.files, name: ObservedFile("another", text)}
        ),
    )
    diff = next(each for each in found.changes if each.service == "caddy").diff.splitlines()
    assert diff[-1].startswith("… ")
    assert diff[-1].endswith(" more lines")
    cut = int(diff[-1].split()[1])
    whole = len((observe(rendered(make())).files[name].content or b"").splitlines()) + 2000
    assert len(diff) - 1 + cut == whole + 3  # two lines of names, one of the hunk


@pytest.mark.parametrize(("skew", "expected"), [(0, False), (19.9, False), (-60, True), (60, True)])
def test_a_clock_that_is_off_either_way_spoils_codes(
    make: Callable[..., Target], skew: float, expected: bool
) -> None:
    totp = {"seed": {"stored": "totp-seed"}, "i_accept_one_factor": True}
    target = make(gateway={"two_factor": {"totp": totp}})
    found = compute(target, rendered(target), Observed(skew=skew))
    assert found.forecast.expected is expected


@pytest.mark.parametrize(
    ("state", "why"), [(None, "no session is there yet"), ("exited", "it does not run")]
)
def test_why_there_is_no_session_to_keep(
    make: Callable[..., Target], state: str | None, why: str
) -> None:
    target = make(gateway={"mode": "live"}, trading={"live": True})
    release = rendered(target)
    seen = Observed() if state is None else observe(release, gateway=state)
    assert why in compute(target, release, seen).forecast.reason


@pytest.mark.parametrize(("changed", "more"), [(10, None), (198, None), (199, 1), (300, 102)])
def test_a_long_diff_says_how_much_of_it_is_left_out(changed: int, more: int | None) -> None:
    before = [f"line {number}" for number in range(changed - 1)]
    lines = causes._diff("x", [], before).splitlines()
    assert lines[:2] == ["--- x (now)", "+++ x (new)"]
    whole = 2 + changed  # with the line that says where
    left_out = [] if more is None else [f"… {more} more lines"]
    assert lines[min(whole, 200) :] == left_out
    assert len(lines) == min(whole, 200) + len(left_out)
