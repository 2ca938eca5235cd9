"""The status page in a real browser, in front of a real sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, WebSocketRoute, expect

from infrastructure.runtime.sandbox.runtime import SandboxRuntime
from tests.browser.conftest import go, sign_in, wait_for_state

if TYPE_CHECKING:
    from tests.sandbox.stack import Sandbox

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture
def status(page: Page, sandbox: Sandbox) -> Page:
    """The page, signed in and live."""
    sign_in(page, sandbox.key)
    wait_for_state(page, "ready")
    page.locator("body[data-freshness='live']").wait_for()
    page.locator("#halt").wait_for()  # shown once the page has heard what the key may do
    return page


def test_a_wrong_key_is_refused_and_shows_nothing(page: Page) -> None:
    sign_in(page, "not-a-key")
    expect(page.get_by_role("alert")).to_have_text("That key is not valid.")
    assert page.locator("#status").is_hidden()


def test_both_sessions_the_mode_and_the_next_step_are_shown(status: Page, sandbox: Sandbox) -> None:
    assert status.locator("#mode").inner_text() == "PAPER"
    assert status.locator("#next-action").inner_text() != ""
    assert "In the last 24 hours" in (
        status.locator("#timeline svg").get_attribute("aria-label") or ""
    )
    go(status, "connection")
    expect(status.locator("#tws")).to_contain_text("Upstream")
    expect(status.locator("#portal")).to_contain_text("Authenticated")
    assert sandbox.key not in status.url
    assert sandbox.key not in status.content()


def test_a_fault_is_seen_and_so_is_the_recovery(status: Page) -> None:
    go(status, "sandbox")
    status.locator("[data-fault='upstream-lost']").click()
    wait_for_state(status, "upstream-lost")
    expect(status.locator("#cause")).to_contain_text("1100")
    status.locator("[data-fault='upstream-lost']").click()
    wait_for_state(status, "ready")


def test_a_fault_button_keeps_the_focus_and_tells_what_is_on(
    status: Page, sandbox: Sandbox
) -> None:
    """By keyboard alone; faults also end elsewhere, and one that ends leaves the others on."""

    def pressed(name: str, value: str) -> None:
        button = status.locator(f"[data-fault='{name}']")
        expect(button).to_have_attribute("aria-pressed", value)

    go(status, "sandbox")
    first = status.locator("[data-fault='late-fills']")
    first.focus()
    status.keyboard.press("Enter")
    pressed("late-fills", "true")
    expect(first).to_be_focused()
    status.locator("[data-fault='duplicate-status']").click()
    pressed("duplicate-status", "true")
    first.focus()
    status.keyboard.press("Space")
    pressed("late-fills", "false")
    pressed("duplicate-status", "true")
    expect(status.locator("#fault-state")).to_contain_text("Active: Everything twice.")
    sandbox.fault(None)
    expect(status.locator("#fault-state")).to_have_text("No fault is active.")
    pressed("duplicate-status", "false")


def answer_by_keyboard(page: Page) -> None:
    """As a person does it, who sees the dialog before the next key."""
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")


def test_the_halt_button_has_the_focus_again_after_its_dialog(
    status: Page, sandbox: Sandbox
) -> None:
    status.locator("#halt").focus()
    answer_by_keyboard(status)
    wait_for_state(status, "halted")
    expect(status.locator("#halt")).to_be_focused()
    answer_by_keyboard(status)
    wait_for_state(status, "ready")
    assert sandbox.get("/trading/halt")["halted"] is False


def test_the_halt_button_does_what_the_verdict_says(status: Page, sandbox: Sandbox) -> None:
    """Also while what it knows of the halt is older than the state that the stream brought."""
    old = {"halted": False, "reason": None, "since": None, "by": None}

    def stale(route: Route) -> None:
        if route.request.method == "GET":
            route.fulfill(json=old)
        else:
            route.continue_()

    status.route("**/trading/halt", stale)
    sandbox.post("/trading/halt", {"reason": "test", "keepOrders": True})
    wait_for_state(status, "halted")
    status.locator("#halt").click()
    status.get_by_role("dialog").get_by_role("button", name="Resume trading").click()
    wait_for_state(status, "ready")
    assert sandbox.get("/trading/halt")["halted"] is False


def test_a_dropped_socket_is_named_as_the_last_disconnect(status: Page) -> None:
    go(status, "sandbox")
    status.locator("[data-fault='rst']").click()
    expect(status.locator("#cause")).not_to_contain_text("none on record")
    status.locator("[data-fault='rst']").click()
    wait_for_state(status, "ready")


def test_trading_is_halted_after_a_confirmation_and_resumed(status: Page, sandbox: Sandbox) -> None:
    status.locator("#halt").click()
    dialog = status.get_by_role("dialog")
    dialog.get_by_role("button", name="Keep as it is").click()
    assert sandbox.get("/trading/halt")["halted"] is False
    status.locator("#halt").click()
    dialog.get_by_role("button", name="Halt trading").click()
    wait_for_state(status, "halted")
    assert sandbox.get("/trading/halt")["halted"] is True
    status.get_by_role("button", name="Resume trading").click()
    dialog.get_by_role("button", name="Resume trading").click()
    wait_for_state(status, "ready")


def test_what_a_halt_could_not_do_is_said(status: Page) -> None:
    halt = {"halted": True, "survivesRestart": False, "nextStep": "Do not restart the bridge"}

    def answer(route: Route) -> None:
        route.fulfill(json=halt) if route.request.method == "POST" else route.continue_()

    status.route("**/trading/halt", answer)
    status.locator("#halt").click()
    status.get_by_role("dialog").get_by_role("button", name="Halt trading").click()
    expect(status.locator("#toast")).to_have_text("Trading halted. Do not restart the bridge")
    status.unroute_all()
    status.route("**/trading/halt", lambda route: route.abort())
    status.locator("#halt").click()
    status.get_by_role("dialog").get_by_role("button", name="Halt trading").click()
    expect(status.locator("#toast")).to_contain_text("./deploy.py halt needs no bridge")
    status.unroute_all()


def test_a_key_that_may_not_lift_a_halt_is_not_offered_it(page: Page, sandbox: Sandbox) -> None:
    made = sandbox.post("/keys", {"label": "trader", "scope": "trade"})
    sign_in(page, made["key"])
    wait_for_state(page, "ready")
    expect(page.get_by_role("button", name="Halt trading")).to_be_visible()
    sandbox.post("/trading/halt", {"reason": "test", "keepOrders": True})
    wait_for_state(page, "halted")
    expect(page.locator("#halt")).to_be_hidden()
    sandbox.resume()
    wait_for_state(page, "ready")
    expect(page.get_by_role("button", name="Halt trading")).to_be_visible()


def test_an_open_order_and_a_fill_appear_by_themselves(status: Page, sandbox: Sandbox) -> None:
    limit = {"symbol": "AAPL", "action": "BUY", "quantity": 3, "orderType": "LMT"}
    near = sandbox.get("/quote/AAPL")["bid"]["value"] * 0.96
    sandbox.post("/order", {**limit, "limitPrice": round(near, 2)})
    expect(status.locator("#orders")).to_contain_text("AAPL")
    sandbox.post("/order", {**limit, "quantity": 7, "orderType": "MKT"})
    expect(status.locator("#executions")).to_contain_text("AAPL")
    expect(status.locator("#executions tbody tr").first).to_contain_text("7")


def test_open_orders_are_told_as_old_while_the_broker_is_away(
    status: Page, sandbox: Sandbox
) -> None:
    near = sandbox.get("/quote/JPM")["bid"]["value"] * 0.9
    order = {"symbol": "JPM", "action": "BUY", "quantity": 3, "orderType": "LMT"}
    sandbox.post("/order", {**order, "limitPrice": round(near, 2)})
    go(status, "orders")
    expect(status.locator("#orders")).to_contain_text("JPM")
    expect(status.locator("#orders-age")).to_have_text("")
    sandbox.fault("upstream-lost")
    expect(status.locator("#orders-age")).to_contain_text("as it last told")
    sandbox.fault(None)
    expect(status.locator("#orders-age")).to_have_text("")


def test_orders_do_not_wait_for_the_client_portal(status: Page, sandbox: Sandbox) -> None:
    status.route("**/session", lambda _: None)  # a gateway that has not answered yet
    status.reload()
    wait_for_state(status, "ready")
    near = sandbox.get("/quote/XOM")["bid"]["value"] * 0.9
    order = {"symbol": "XOM", "action": "BUY", "quantity": 3, "orderType": "LMT"}
    sandbox.post("/order", {**order, "limitPrice": round(near, 2)})
    expect(status.locator("#orders")).to_contain_text("XOM", timeout=10_000)
    status.unroute_all()


def test_another_journal_is_read_from_its_beginning(status: Page, sandbox: Sandbox) -> None:
    """Restored or lost, it has not come as far as the page has, and refuses the page's place."""
    refused = {"code": "invalid-cursor", "detail": "this journal has had 3 changes"}
    status.route("**/executions?*cursor=c-*", lambda each: each.fulfill(status=422, json=refused))
    go(status, "executions")
    for symbol in ("MSFT", "NVDA"):  # nothing has looked at them yet
        order = {"symbol": symbol, "action": "BUY", "quantity": 3, "orderType": "MKT"}
        sandbox.post("/order", order)
        expect(status.locator("#executions tbody tr").first).to_contain_text(symbol)
    status.unroute_all()


def test_a_portal_that_does_not_answer_is_not_shown_as_it_was(
    status: Page, sandbox: Sandbox
) -> None:
    go(status, "connection")
    expect(status.locator("#portal")).not_to_contain_text("not known yet")
    status.route("**/session", lambda route: route.abort())
    order = {"symbol": "XOM", "action": "BUY", "quantity": 3, "orderType": "MKT"}
    sandbox.post("/order", order)  # whose events bring the next look
    expect(status.locator("#portal")).to_contain_text("not known yet")
    status.unroute_all()


def test_old_values_never_look_new_and_the_page_finds_back(status: Page, sandbox: Sandbox) -> None:
    runtime = SandboxRuntime(sandbox.base)
    bridge = next(item for item in runtime.containers() if item.service == "bridge")
    runtime.stop([bridge])
    status.locator("body[data-freshness='old']").wait_for()
    expect(status.locator("#freshness")).to_contain_text("no contact with the bridge since")
    expect(status.locator("#verdict-title")).to_contain_text("No contact since")
    runtime.start([bridge])
    status.locator("body[data-freshness='live']").wait_for()
    wait_for_state(status, "ready")


def test_a_stream_that_is_refused_with_a_good_key_is_tried_again(status: Page) -> None:
    """A key that came too late, or was pushed out by others: signed out is who has none."""
    refused: list[WebSocketRoute] = []

    def refuse(socket: WebSocketRoute) -> None:
        if len(refused) < 2:
            refused.append(socket)
            socket.close(code=4401, reason="no key was sent in time")
        else:
            socket.connect_to_server()

    status.route_web_socket("**/stream", refuse)
    status.reload()
    status.locator("body[data-freshness='live']").wait_for()
    assert len(refused) == 2
    assert status.locator("#sign-in").is_hidden()


def test_signing_out_forgets_the_key(status: Page) -> None:
    status.get_by_role("button", name="Sign out").click()
    status.reload()
    expect(status.get_by_label("API key")).to_be_visible()
    assert status.evaluate("sessionStorage.length + localStorage.length") == 0
    status.wait_for_timeout(500)  # nothing that was under way signs anyone in or complains
    expect(status.get_by_role("alert")).to_have_text("")


def test_nothing_of_the_account_stays_in_the_page_after_signing_out(
    status: Page, sandbox: Sandbox
) -> None:
    order = {"symbol": "MSFT", "action": "BUY", "quantity": 2, "orderType": "MKT"}
    sandbox.post("/order", order)
    expect(status.locator("#executions")).to_contain_text("MSFT")
    status.get_by_role("button", name="Sign out").click()
    assert "MSFT" not in status.content()


@pytest.mark.parametrize("width", [320, 390])
def test_it_fits_a_phone(status: Page, width: int) -> None:
    status.set_viewport_size({"width": width, "height": 780})
    assert status.evaluate("document.documentElement.scrollWidth") <= width
    go(status, "connection")
    for name in ("Reconnect", "Halt trading"):
        box = status.get_by_role("button", name=name).bounding_box()
        assert box is not None
        assert box["height"] >= 44


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier(page: Page, sandbox: Sandbox, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    # The page's own policy forbids injected scripts; the checker comes in below it.
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    sign_in(page, sandbox.key)
    wait_for_state(page, "ready")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_everything_is_reachable_by_keyboard(status: Page) -> None:
    status.reload()  # the key is kept in the tab; the focus starts at the top
    wait_for_state(status, "ready")
    status.locator("#halt").wait_for()
    status.keyboard.press("Tab")
    assert status.evaluate("document.activeElement.className") == "skip"
    seen = set()
    for _ in range(40):
        status.keyboard.press("Tab")
        seen.add(status.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert {"sign-out", "halt", "Positions", "Operate", "timeline"} <= seen


def test_nothing_is_asked_of_anyone_else(browser: Browser, sandbox: Sandbox) -> None:
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{sandbox.address}/")
    sign_in(page, sandbox.key)
    wait_for_state(page, "ready")
    assert asked
    assert all(
        url.startswith((sandbox.address, sandbox.address.replace("http", "ws"))) for url in asked
    )
    context.close()


def test_the_policy_is_strict(sandbox: Sandbox) -> None:
    from bridge.api.page import FOLDER, POLICY

    assert "unsafe" not in POLICY
    assert "default-src 'none'" in POLICY
    text = Path(FOLDER / "index.html").read_text()
    assert "<style" not in text
    assert " style=" not in text
    assert "onclick" not in text


def test_what_needs_a_person_is_the_sentence_and_an_order_can_be_settled(
    status: Page, sandbox: Sandbox
) -> None:
    """The answers are those of a bridge with an order of unknown fate, which takes long to make."""
    near = sandbox.get("/quote/AAPL")["bid"]["value"] * 0.9
    order = {"symbol": "AAPL", "action": "BUY", "quantity": 3, "orderType": "LMT"}
    placed = sandbox.post("/order", {**order, "limitPrice": round(near, 2)})
    need = {"code": "orders-unknown", "message": "1 order needs you", "nextStep": "settle it"}
    other = {"code": "clock", "message": "The clocks differ", "nextStep": "mend it"}
    health = {**sandbox.get("/health"), "state": "ready", "needs": [need, other]}
    asked: list[str] = []

    def settled(route: Route) -> None:
        asked.append(route.request.post_data or "")
        route.fulfill(status=200, json={})

    status.route("**/health", lambda route: route.fulfill(json=health))
    unknown = {**placed, "state": "unknown", "status": "Unknown"}
    status.route("**/orders?*", lambda route: route.fulfill(json={"orders": [unknown]}))
    status.route("**/settle", settled)
    status.reload()
    expect(status.locator("#verdict-title")).to_have_text("1 order needs you")
    expect(status.locator("#verdict")).to_have_attribute("data-tone", "person")
    expect(status.locator("#needs")).to_contain_text("The clocks differ: mend it")
    go(status, "orders")
    status.get_by_role("button", name="UNKNOWN: settle").click()
    status.get_by_label("nothing is sent to the broker").select_option("Cancelled")
    status.get_by_role("button", name="Settle", exact=True).click()
    expect(status.locator("#toast")).to_have_text("Settled")
    assert '"status":"Cancelled"' in asked[0]
    status.unroute_all()
