"""The page's screens: what a trader does in the morning, by mouse, by keyboard, on a phone."""

from __future__ import annotations

import csv
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import APIResponse, Browser, Page, Route, expect

from bridge.api.page import assets
from tests.browser.conftest import go, sign_in, wait_for_state

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.stack import Sandbox

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]
WEIGHT = 150_000
SCREENS: dict[str, list[str]] = {
    "today": ["Session", "Money", "Availability"],
    "positions": ["Positions", "Rules", "Cash and margin"],
    "orders": ["Order ticket", "Open orders"],
    "executions": ["Executions"],
    "instrument": ["Chart of an instrument"],
    "connection": ["TWS API", "Client Portal", "Heartbeat", "Last disconnect", "What happened"],
    "operate": ["Keys", "Connection settings", "Alerts", "Audit"],
    "sandbox": ["Pull the plug"],
}


@pytest.fixture
def signed_in(page: Page, sandbox: Sandbox) -> Page:
    sign_in(page, sandbox.key)
    wait_for_state(page, "ready")
    page.locator("body[data-freshness='live']").wait_for()
    page.locator("#sandbox-link").wait_for()
    return page


def press(page: Page, name: str) -> None:
    """What has the focus is the way to it: Tab until it is there, then Enter."""
    for _ in range(60):
        page.keyboard.press("Tab")
        label = "(document.activeElement.textContent || '').trim()"
        if page.evaluate(label) == name:
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"{name} was not reached by Tab")


def to_field(page: Page, name: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == name:
            return
    raise AssertionError(f"the field {name} was not reached by Tab")


# --- structure -----------------------------------------------------------------------------------
@pytest.mark.parametrize("width", [1280, 390])
def test_each_screen_has_its_parts_and_fits(signed_in: Page, width: int) -> None:
    signed_in.set_viewport_size({"width": width, "height": 800})
    for screen, parts in SCREENS.items():
        go(signed_in, screen)
        shown = signed_in.locator(f"[data-screen='{screen}']")
        assert shown.locator("h2").all_inner_texts() == parts
        assert signed_in.evaluate("document.documentElement.scrollWidth") <= width, screen
        assert signed_in.locator("[data-screen]:visible").count() == 1
        button = signed_in.locator("#halt").bounding_box()
        assert button is not None
        assert button["height"] >= 44
        if width < 600:  # within reach of a thumb, wherever the page is scrolled to
            assert button["y"] > 400


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier_on_any_screen(signed_in: Page, scheme: str) -> None:
    signed_in.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    for width in (1280, 390):
        signed_in.set_viewport_size({"width": width, "height": 800})
        for screen in SCREENS:
            go(signed_in, screen)
            found = Axe().run(signed_in)
            assert found.violations_count == 0, f"{screen} {width}: {found.generate_report()}"


def test_the_page_is_light_and_can_be_installed(page: Page, sandbox: Sandbox) -> None:
    assert sum(len(content) for content, _ in assets().values()) <= WEIGHT
    address = page.locator("link[rel=manifest]").get_attribute("href")
    answer = page.request.get(f"{sandbox.address}/{address}")
    assert answer.headers["content-type"] == "application/manifest+json"
    assert answer.json()["display"] == "standalone"
    assert (
        page.evaluate("navigator.serviceWorker.getRegistrations().then((all) => all.length)") == 0
    )


def test_all_scripts_are_asked_for_at_once(page: Page) -> None:
    """Else each one that names another costs a round trip before anything is shown."""
    asked = page.locator("link[rel=modulepreload]").evaluate_all(
        "(links) => links.map((link) => link.getAttribute('href'))"
    )
    scripts = {f"page/{name}" for name in assets() if name.endswith(".js")}
    assert {*asked, "page/main.js", "page/begin.js"} == scripts


@pytest.mark.parametrize("name", ["main.js", "format.js"])
def test_a_script_that_does_not_arrive_is_asked_for_again(
    browser: Browser, sandbox: Sandbox, name: str
) -> None:
    """One that is missing stops all of them, and a page without its form tells nobody why."""
    missing = browser.new_page()
    refused = 0

    def refuse(route: Route) -> None:
        nonlocal refused
        refused += 1
        route.abort() if refused == 1 else route.continue_()

    missing.route(f"**/page/{name}", refuse)
    missing.goto(sandbox.address)
    missing.get_by_label("API key").wait_for()
    assert refused == 2
    assert missing.evaluate("sessionStorage.length") == 0
    assert missing.locator("#loading").count() == 0
    missing.close()


def test_a_page_without_its_scripts_says_so(browser: Browser, sandbox: Sandbox) -> None:
    missing = browser.new_page()
    loads = 0

    def refuse(route: Route) -> None:
        nonlocal loads
        loads += 1
        route.abort()

    missing.route("**/page/stream.js", refuse)
    missing.add_init_script(
        "sessionStorage.getItem('gangway-loads') ?? sessionStorage.setItem('gangway-loads', 2)"
    )
    missing.goto(sandbox.address)
    expect(missing.get_by_role("link", name="load it again")).to_be_visible()
    missing.wait_for_timeout(
        9_000
    )  # the third and last of its own accord comes after eight seconds
    expect(missing.get_by_role("link", name="load it again")).to_be_visible()
    assert loads <= 4, "a preload and a script, twice"
    missing.unroute_all()
    missing.get_by_role("link", name="load it again").click()
    missing.get_by_label("API key").wait_for()
    missing.close()


# --- in at most four steps, by keyboard alone ----------------------------------------------------
def test_a_limit_order_is_placed_and_its_fill_is_seen(signed_in: Page, sandbox: Sandbox) -> None:
    ask = sandbox.get("/quote/AAPL")["ask"]["value"]
    press(signed_in, "Orders")  # 1
    to_field(signed_in, "symbol")  # 2: the ticket
    signed_in.keyboard.type("aapl")
    to_field(signed_in, "quantity")
    signed_in.keyboard.type("4")
    to_field(signed_in, "limitPrice")
    signed_in.keyboard.type(str(round(ask * 1.01, 2)))
    signed_in.keyboard.press("Enter")  # 3: the preview, which has the focus then
    expect(signed_in.locator("#preview-title")).to_be_focused()
    expect(signed_in.locator("#preview-words")).to_contain_text("BUY 4 AAPL at a limit of")
    expect(signed_in.locator("#preview-facts")).to_contain_text("Commission")
    press(signed_in, "Place this order")  # 4: and the word that confirms it
    expect(signed_in.locator("#confirm-text")).to_contain_text("This is the paper account.")
    signed_in.keyboard.press("Tab")
    signed_in.keyboard.press("Enter")
    expect(signed_in.locator("#ticket-told")).to_contain_text("Placed: BUY 4 AAPL")
    press(signed_in, "Executions")
    expect(signed_in.locator("#executions tbody tr").first).to_contain_text("AAPL")
    expect(signed_in.locator("#executions tbody tr").first).to_contain_text("4")


def test_trading_is_halted_in_two_steps(signed_in: Page, sandbox: Sandbox) -> None:
    press(signed_in, "Halt trading")
    expect(signed_in.locator("#confirm-title")).to_be_visible()
    signed_in.keyboard.press("Tab")
    signed_in.keyboard.press("Enter")
    wait_for_state(signed_in, "halted")
    assert sandbox.get("/trading/halt")["halted"] is True


def test_yesterdays_executions_are_two_steps_away(signed_in: Page) -> None:
    asked: list[str] = []
    yesterday = datetime.now(UTC) - timedelta(days=1)
    fill = {
        "execId": "x", "time": yesterday.isoformat(), "symbol": "IBM", "secType": "STK",
        "side": "SELL",
        "quantity": 2, "price": 100.5, "commission": 1.0, "realizedPnl": 12.5, "currency": "USD",
        "account": "DU1234567", "expiration": None, "strike": None, "right": None,
    }  # fmt: skip

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        rows = [fill] if "until=" in route.request.url else []
        route.fulfill(json={"executions": rows, "nextCursor": None, "changesCursor": "c"})

    signed_in.route("**/executions?*", answer)
    press(signed_in, "Executions")
    press(signed_in, "Yesterday")
    expect(signed_in.locator("#executions tbody")).to_contain_text("IBM")
    expect(signed_in.locator("#executions-sum")).to_contain_text("+12.50 USD")
    assert any("until=" in url for url in asked)
    signed_in.unroute_all()


# --- orders --------------------------------------------------------------------------------------
def ticket(page: Page, **fields: str) -> None:
    go(page, "orders")
    form = page.locator("#ticket")
    for name, value in fields.items():
        field = form.locator(f"[name={name}]")
        if field.evaluate("(node) => node.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
    form.get_by_role("button", name="Preview").click()


def place(page: Page) -> None:
    page.get_by_role("button", name="Place this order").click()
    page.get_by_role("dialog").get_by_role("button", name="Place the order").click()


def orders_of(sandbox: Sandbox, symbol: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sandbox.get("/orders")["orders"]
    return [order for order in found if order["symbol"] == symbol]


def test_what_would_be_refused_cannot_be_placed(signed_in: Page) -> None:
    ticket(signed_in, symbol="AAPL", quantity="1", orderType="LMT", limitPrice="1000")
    expect(signed_in.locator("#violations li")).not_to_have_count(0)
    expect(signed_in.locator("#place")).to_be_hidden()


def test_a_field_that_is_no_number_is_said(signed_in: Page) -> None:
    ticket(signed_in, symbol="AAPL", quantity="ten", orderType="MKT")
    expect(signed_in.locator("#ticket-told")).to_contain_text("quantity is not a number")


def test_what_is_changed_after_the_preview_is_previewed_again(signed_in: Page) -> None:
    ticket(signed_in, symbol="AAPL", quantity="1", limitPrice="150")
    expect(signed_in.locator("#place")).to_be_visible()
    signed_in.locator("#ticket [name=quantity]").fill("100")
    expect(signed_in.locator("#preview")).to_be_hidden()


def test_a_preview_of_what_the_form_held_before_is_not_shown(signed_in: Page) -> None:
    """It could be placed, while the form says something else; nor are two of them under way."""
    held: list[Route] = []
    signed_in.route("**/order/preview", lambda route: held.append(route))
    ticket(signed_in, symbol="AAPL", quantity="1", limitPrice="150")
    button = signed_in.locator("#ticket").get_by_role("button", name="Preview")
    expect(button).to_be_disabled()
    while not held:
        signed_in.wait_for_timeout(20)
    signed_in.locator("#ticket [name=quantity]").fill("100")
    with signed_in.expect_response("**/order/preview"):
        held[0].continue_()
    expect(button).to_be_enabled()
    expect(signed_in.locator("#preview")).to_be_hidden()
    signed_in.unroute_all()
    button.click()
    expect(signed_in.locator("#preview-words")).to_contain_text("BUY 100 AAPL")


def test_an_old_preview_is_not_placed(signed_in: Page) -> None:
    """Its prices and its margin are of a market that has moved on."""
    signed_in.clock.install()
    signed_in.reload()
    wait_for_state(signed_in, "ready")
    ticket(signed_in, symbol="AAPL", quantity="1", limitPrice="150")
    expect(signed_in.locator("#place")).to_be_visible()
    signed_in.clock.fast_forward(4 * 60_000)
    expect(signed_in.locator("#place")).to_be_visible()
    signed_in.clock.fast_forward(62_000)
    expect(signed_in.locator("#preview")).to_be_hidden()
    expect(signed_in.locator("#ticket-told")).to_contain_text("preview the order again")


def test_an_answer_that_is_lost_is_asked_for_again_and_never_placed_twice(
    signed_in: Page, sandbox: Sandbox
) -> None:
    """Also after the page was loaded anew: the ticket has one key until its fate is known."""
    before = len(orders_of(sandbox, "NVDA"))
    keys: list[str] = []

    def lose(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            route.fetch()  # it arrives, and the answer does not
            route.abort()
        else:
            route.continue_()

    bid = sandbox.get("/quote/NVDA")["bid"]["value"]
    signed_in.route("**/order", lose)
    ticket(signed_in, symbol="NVDA", quantity="1", limitPrice=str(round(bid * 0.9, 2)))
    place(signed_in)
    expect(signed_in.locator("#ticket-open")).to_contain_text("Not answered yet: BUY 1 NVDA")
    signed_in.reload()
    wait_for_state(signed_in, "ready")
    go(signed_in, "orders")
    signed_in.get_by_role("button", name="Ask what became of it").click()
    expect(signed_in.locator("#ticket-told")).to_contain_text("Placed: BUY 1 NVDA")
    expect(signed_in.locator("#ticket-open")).to_be_hidden()
    assert len(set(keys)) == 1
    assert len(orders_of(sandbox, "NVDA")) == before + 1
    signed_in.unroute_all()


def test_what_never_arrived_is_not_placed_by_asking_for_it(
    signed_in: Page, sandbox: Sandbox
) -> None:
    """Nor is an order forgotten whose answer was lost, when another is placed meanwhile."""
    symbols = ("NVDA", "IBM")
    before = [len(orders_of(sandbox, symbol)) for symbol in symbols]
    signed_in.route("**/order", lambda route: route.abort())
    for symbol in symbols:
        bid = sandbox.get(f"/quote/{symbol}")["bid"]["value"]
        ticket(signed_in, symbol=symbol, quantity="1", limitPrice=str(round(bid * 0.9, 2)))
        place(signed_in)
        lost = f"Not answered yet: BUY 1 {symbol}"
        expect(signed_in.locator("#ticket-open")).to_contain_text(lost)
    signed_in.unroute_all()
    buttons = signed_in.get_by_role("button", name="Ask what became of it")
    expect(buttons).to_have_count(2)
    buttons.first.click()
    expect(signed_in.locator("#ticket-told")).to_contain_text("ask again in a minute")
    signed_in.evaluate(
        """() => { const all = JSON.parse(sessionStorage.getItem("gangway-ticket"));
        all[0].at -= 120000;
        sessionStorage.setItem("gangway-ticket", JSON.stringify(all)); }"""
    )
    signed_in.reload()
    wait_for_state(signed_in, "ready")
    go(signed_in, "orders")
    expect(buttons).to_have_count(2)
    buttons.first.click()
    expect(signed_in.locator("#ticket-told")).to_contain_text("Not placed: BUY 1 NVDA")
    expect(buttons).to_have_count(1)
    assert [len(orders_of(sandbox, symbol)) for symbol in symbols] == before


def test_what_was_certainly_not_sent_is_no_open_question(signed_in: Page) -> None:
    problem = {"code": "not-connected", "detail": "there is no session", "nextStep": "Wait"}
    signed_in.route("**/order", lambda route: route.fulfill(status=503, json=problem))
    ticket(signed_in, symbol="AAPL", quantity="1", limitPrice="150")
    place(signed_in)
    expect(signed_in.locator("#ticket-told")).to_have_text("there is no session. Wait")
    expect(signed_in.locator("#ticket-open")).to_be_hidden()
    expect(signed_in.locator("#place")).to_be_visible()  # under the same key
    signed_in.unroute_all()


def test_an_open_order_is_changed_and_cancelled(signed_in: Page, sandbox: Sandbox) -> None:
    bid = sandbox.get("/quote/IBM")["bid"]["value"]
    order = {"symbol": "IBM", "action": "BUY", "quantity": 2, "orderType": "LMT"}
    placed = sandbox.post("/order", {**order, "limitPrice": round(bid * 0.9, 2)})
    go(signed_in, "orders")
    row = signed_in.locator("#orders tbody tr", has_text="IBM")
    row.get_by_role("button", name="Change").click()
    signed_in.get_by_role("dialog").get_by_label("Quantity").fill("5,000")
    signed_in.get_by_role("dialog").get_by_role("button", name="Change").click()
    expect(signed_in.locator("#toast")).to_contain_text("the quantity is no number")
    row.get_by_role("button", name="Change").click()
    signed_in.get_by_role("dialog").get_by_label("Quantity").fill("5")
    signed_in.get_by_role("dialog").get_by_role("button", name="Change").click()
    expect(row.locator("td").nth(2)).to_have_text("5")
    assert sandbox.get(f"/order/{placed['orderId']}")["quantity"] == 5
    row.get_by_role("button", name="Cancel").click()
    signed_in.get_by_role("dialog").get_by_role("button", name="Cancel the order").click()
    expect(row).to_have_count(0)


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("TRAIL", {"trailPercent": "5"}, "once it turns by 5 %"),
        ("LOC", {"limitPrice": "150"}, "at the close at a limit of 150"),
        ("MTL", {}, "the rest at the price of the first fill"),
        ("MIDPRICE", {"limitPrice": "150"}, "between bid and ask, at a limit of 150"),
    ],
)
def test_other_types_are_repeated_in_words(
    signed_in: Page, kind: str, fields: dict[str, str], words: str
) -> None:
    ticket(signed_in, symbol="AAPL", quantity="1", orderType=kind, **fields)
    expect(signed_in.locator("#preview-words")).to_contain_text(words)


def test_an_order_outside_regular_hours_is_repeated_as_one(signed_in: Page) -> None:
    go(signed_in, "orders")
    signed_in.get_by_label("Outside regular hours, too").check()
    ticket(signed_in, symbol="AAPL", quantity="1", limitPrice="150")
    expect(signed_in.locator("#preview-words")).to_contain_text("outside regular hours, too")


def test_a_combination_is_previewed_with_its_net(signed_in: Page, sandbox: Sandbox) -> None:
    chain = sandbox.get("/options/chain?symbol=AAPL")
    listed = next(each for each in chain["classes"] if len(each["strikes"]) > 5)
    last = sandbox.get("/quote/AAPL")["last"]["value"]
    strikes = sorted(listed["strikes"], key=lambda strike: abs(strike - last))[:2]
    go(signed_in, "orders")
    form = signed_in.locator("#ticket")
    form.locator("[name=symbol]").fill("AAPL")
    form.locator("[name=secType]").select_option("BAG")
    legs = form.locator(".leg")
    expect(legs).to_have_count(2)
    for number, (side, strike) in enumerate(zip(("SELL", "BUY"), strikes, strict=True)):
        leg = legs.nth(number)
        leg.locator("[name=leg-action]").select_option(side)
        leg.locator("[name=leg-expiration]").fill(listed["expirations"][2])
        leg.locator("[name=leg-strike]").fill(str(strike))
    form.locator("[name=quantity]").fill("1")
    form.locator("[name=limitPrice]").fill("-0.05")
    form.get_by_role("button", name="Preview").click()
    expect(signed_in.locator("#preview-words")).to_contain_text("SELL 1")
    expect(signed_in.locator("#preview-facts")).to_contain_text("Net")


def test_a_position_shows_its_rules_and_how_far_they_are(signed_in: Page, sandbox: Sandbox) -> None:
    sandbox.post("/order", {"symbol": "AAPL", "action": "BUY", "quantity": 2, "orderType": "MKT"})
    rule = {"id": "take", "match": {"symbol": "AAPL"}, "takeProfit": {"percent": 20}}
    sandbox.put("/rules", {"rules": [{**rule, "mode": "simulate"}]})
    go(signed_in, "today")
    go(signed_in, "positions")
    standing = signed_in.locator("#standing tbody tr", has_text="AAPL")
    expect(standing).to_contain_text("take profit", timeout=60_000)  # judged every 30 s at least
    expect(standing).to_contain_text("simulate")
    state = signed_in.locator("#rules tbody tr", has_text="take").locator("td[data-label='State']")
    signed_in.get_by_role("button", name="Switch off take").click()
    expect(state).to_have_text("off")
    assert sandbox.get("/rules")["rules"][0]["enabled"] is False
    signed_in.get_by_role("button", name="Switch on take").click()
    signed_in.get_by_role("dialog").get_by_role("button", name="Switch it on").click()
    expect(state).to_have_text("on")
    sandbox.put("/rules", {"rules": []})


def test_an_answer_from_before_a_change_is_not_shown_after_it(
    signed_in: Page, sandbox: Sandbox
) -> None:
    """A reading of the rules that was on its way while one was switched off comes last."""
    rule = {"id": "late", "match": {"symbol": "AAPL"}, "takeProfit": {"percent": 20}}
    held: list[tuple[Route, APIResponse]] = []

    def hold(route: Route) -> None:
        if route.request.method == "GET" and not held:
            held.append((route, route.fetch()))
        else:
            route.continue_()

    sandbox.put("/rules", {"rules": [{**rule, "mode": "simulate"}]})
    go(signed_in, "positions")
    signed_in.locator("#rules tbody tr", has_text="late").wait_for()
    signed_in.route("**/rules", hold)
    go(signed_in, "today")
    go(signed_in, "positions")
    while not held:
        signed_in.wait_for_timeout(20)
    signed_in.get_by_role("button", name="Switch off late").click()
    pressed = signed_in.get_by_role("button", name="Switch on late")
    pressed.evaluate(
        """node => { window.said = [];
        const told = () => window.said.push(node.textContent);
        const all = { childList: true, characterData: true, subtree: true };
        new MutationObserver(told).observe(node, all); }"""
    )
    route, before = held[0]
    with signed_in.expect_response("**/rules"):
        route.fulfill(response=before)
    signed_in.wait_for_timeout(500)  # what it would be shown by
    assert signed_in.evaluate("window.said") == []
    assert pressed.is_visible()
    sandbox.put("/rules", {"rules": []})


def test_a_key_that_may_only_read_is_offered_nothing_else(page: Page, sandbox: Sandbox) -> None:
    made = sandbox.post("/keys", {"label": f"reader {uuid.uuid4().hex[:6]}", "scope": "read"})
    sign_in(page, made["key"])
    wait_for_state(page, "ready")
    page.locator("body[data-freshness='live']").wait_for()
    go(page, "orders")
    expect(page.locator("#ticket")).to_be_hidden()
    expect(page.locator("#halt")).to_be_hidden()
    expect(page.locator("#screens a[href='#operate']")).to_be_hidden()
    expect(page.get_by_role("button", name="Cancel", exact=False)).to_have_count(0)


# --- money, pictures -----------------------------------------------------------------------------
def test_what_is_held_is_shown_with_its_worth(signed_in: Page, sandbox: Sandbox) -> None:
    sandbox.post("/order", {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "MKT"})
    go(signed_in, "positions")
    expect(signed_in.locator("#positions tbody")).to_contain_text("AAPL")
    expect(signed_in.locator("#margin")).to_contain_text("Buying power")
    go(signed_in, "today")
    expect(signed_in.locator("#money")).to_contain_text("DU1234567")


def test_money_of_one_account_is_not_beside_another_ones(signed_in: Page, sandbox: Sandbox) -> None:
    """Nor is what is not known a zero."""
    worth, day = sandbox.get("/account"), sandbox.get("/pnl")
    [account], [pnl] = worth["accounts"], day["pnl"]
    second = {**account, "account": "DU7654321", "netLiquidation": 5.0}
    both = {**worth, "accounts": [account, second]}
    earned = [{**pnl, "account": "DU7654321", "daily": -5.0}, {**pnl, "daily": 7.0}]
    signed_in.route("**/account", lambda route: route.fulfill(json=both))
    signed_in.route("**/pnl", lambda route: route.fulfill(json={**day, "pnl": earned}))
    signed_in.route("**/positions", lambda route: route.fulfill(status=503, json={"code": "x"}))
    signed_in.reload()
    expect(signed_in.locator("#money")).to_contain_text("DU1234567 and 1 more")
    expect(signed_in.locator("#money")).to_contain_text("+7.00")
    expect(signed_in.locator("#money")).to_contain_text("Positionsnot known")
    signed_in.unroute_all()


def test_what_a_fresh_login_does_not_list_yet_is_not_nothing(
    signed_in: Page, sandbox: Sandbox
) -> None:
    now = sandbox.get("/positions")["at"]
    late = {"account": "DU1234567", "conId": 265598, "symbol": "AAPL", "since": now}
    answer = {"positions": [], "at": now, "age": 0.1, "unconfirmed": [late]}
    signed_in.route("**/positions", lambda route: route.fulfill(json=answer))
    signed_in.reload()
    expect(signed_in.locator("#money")).to_contain_text("Positions1 not listed yet")
    go(signed_in, "positions")
    expect(signed_in.locator("#positions")).to_contain_text("Not listed by the broker yet: AAPL")
    signed_in.unroute_all()


def test_availability_tells_its_parts_by_keyboard(signed_in: Page) -> None:
    signed_in.locator("#timeline-days").select_option("30")
    expect(signed_in.locator("#timeline svg")).to_have_attribute("aria-label", _says("30 days"))
    signed_in.locator("#timeline").focus()
    signed_in.keyboard.press("ArrowLeft")
    expect(signed_in.locator("#timeline-part")).to_contain_text(" for ")


def _says(text: str) -> Any:
    import re

    return re.compile(re.escape(text))


def test_the_chart_has_the_executions_on_it(signed_in: Page, sandbox: Sandbox) -> None:
    sandbox.post("/order", {"symbol": "MSFT", "action": "BUY", "quantity": 1, "orderType": "MKT"})
    go(signed_in, "instrument")
    signed_in.locator("#instrument-form [name=symbol]").fill("msft")
    signed_in.locator("#instrument-form button").click()
    picture = signed_in.locator("#chart svg")
    expect(picture).to_have_attribute("aria-label", _says("MSFT: "))
    expect(picture.locator(".bought").first).to_be_attached()
    signed_in.locator("#chart").focus()
    signed_in.keyboard.press("ArrowLeft")
    expect(signed_in.locator("#chart-part")).to_contain_text("close")


def chart_of(page: Page, symbol: str, span: str) -> None:
    go(page, "instrument")
    page.locator("#instrument-form [name=symbol]").fill(symbol)
    page.locator("#instrument-form [name=span]").select_option(span)
    page.locator("#instrument-form button").click()


def test_the_chart_is_of_what_was_asked_for_last(signed_in: Page) -> None:
    held: list[Route] = []
    signed_in.route("**/history?symbol=AAPL&*", lambda route: held.append(route))
    chart_of(signed_in, "aapl", "1 D")
    while not held:
        signed_in.wait_for_timeout(20)
    chart_of(signed_in, "msft", "1 D")
    picture = signed_in.locator("#chart svg")
    expect(picture).to_have_attribute("aria-label", _says("MSFT: "))
    with signed_in.expect_response("**/history?symbol=AAPL&*"):
        held[0].continue_()
    signed_in.wait_for_timeout(500)  # what it would be shown by
    expect(picture).to_have_attribute("aria-label", _says("MSFT: "))
    signed_in.unroute_all()


def test_a_daily_bar_has_the_day_of_the_exchange(browser: Browser, sandbox: Sandbox) -> None:
    context = browser.new_context(timezone_id="America/Los_Angeles")
    page = context.new_page()
    page.goto(f"{sandbox.address}/")
    sign_in(page, sandbox.key)
    wait_for_state(page, "ready")
    chart_of(page, "aapl", "1 M")
    page.locator("#chart svg").wait_for()
    page.locator("#chart").focus()
    page.keyboard.press("ArrowLeft")
    last = sandbox.get("/history?symbol=AAPL&duration=1%20M&barSize=1%20day")["bars"][-1]["date"]
    day = datetime.strptime(last, "%Y%m%d").replace(tzinfo=UTC)
    expect(page.locator("#chart-part")).to_contain_text(f"{day:%Y-%m-%d}: open")
    context.close()


def test_a_moment_of_another_year_names_it(signed_in: Page) -> None:
    """A key that ends in two years does not end this one."""
    told = signed_in.evaluate(
        "import('/page/format.js').then(({ moment }) => moment('2031-06-15T12:00:00Z'))"
    )
    assert "2031" in told


def test_executions_are_saved_as_csv(signed_in: Page, sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.post("/order", {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "MKT"})
    go(signed_in, "executions")
    expect(signed_in.locator("#executions tbody tr").first).to_contain_text("AAPL")
    with signed_in.expect_download() as saved:
        signed_in.get_by_role("button", name="Save as CSV").click()
    path = tmp_path / "executions.csv"
    saved.value.save_as(path)
    assert "AAPL" in {row["symbol"] for row in csv.DictReader(path.read_text().splitlines())}


def test_what_one_answer_does_not_hold_is_shown_and_saved_too(
    signed_in: Page, sandbox: Sandbox, tmp_path: Path
) -> None:
    """An order that has worked for long, and the last executions of a busy day."""
    body = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "MKT"}
    placed = sandbox.post("/order", body)
    fill = sandbox.get("/executions")["executions"][-1]
    asked: list[str] = []

    def listed(route: Route) -> None:
        asked.append(route.request.url)
        later = "cursor=" in route.request.url
        symbol, cursor = ("MSFT", None) if later else ("AAPL", "7")
        order = {**placed, "orderId": symbol, "symbol": symbol, "state": "acknowledged"}
        route.fulfill(json={"orders": [order], "nextCursor": cursor})

    def filled(route: Route) -> None:
        later = "cursor=" in route.request.url
        symbol, cursor = ("MSFT", None) if later else ("AAPL", "t-1-1")
        if "format=csv" in route.request.url:
            more = {} if later else {"X-Next-Cursor": "t-1-1"}
            route.fulfill(body=f"execId,symbol\r\nx,{symbol}\r\n", headers=more)
            return
        row = {**fill, "execId": symbol, "symbol": symbol}
        row |= {"commission": 1.0, "commissionCurrency": "EUR", "realizedPnl": 2.0}
        route.fulfill(json={"executions": [row], "nextCursor": cursor, "changesCursor": "c-1"})

    signed_in.route("**/orders?*", listed)
    signed_in.route("**/executions?*", filled)
    signed_in.reload()
    go(signed_in, "orders")
    expect(signed_in.locator("#orders tbody tr")).to_have_count(2)
    assert all("open=true" in url for url in asked)
    go(signed_in, "executions")
    expect(signed_in.locator("#executions tbody tr")).to_have_count(2)
    expect(signed_in.locator("#executions-sum")).to_contain_text("commission 2 EUR")
    expect(signed_in.locator("#executions-sum")).to_contain_text("realized +4.00 USD")
    with signed_in.expect_download() as saved:
        signed_in.get_by_role("button", name="Save as CSV").click()
    saved.value.save_as(tmp_path / "executions.csv")
    rows = csv.DictReader((tmp_path / "executions.csv").read_text().splitlines())
    assert [row["symbol"] for row in rows] == ["AAPL", "MSFT"]
    signed_in.unroute_all()


# --- the owner's ---------------------------------------------------------------------------------
def test_a_key_is_made_shown_once_and_revoked(signed_in: Page, sandbox: Sandbox) -> None:
    name = f"phone {uuid.uuid4().hex[:6]}"
    go(signed_in, "operate")
    signed_in.locator("#new-key [name=label]").fill(name)
    signed_in.locator("#new-key [name=scope]").select_option("trade")
    signed_in.locator("#new-key [name=symbols]").fill("aapl, msft")
    signed_in.get_by_role("button", name="Make a key").click()
    made = signed_in.locator("#made-key code").inner_text()
    assert sandbox.get("/page", key=made) == {"scope": "trade", "trading": True}
    row = signed_in.locator("#keys tbody tr", has_text=name)
    expect(row).to_contain_text("symbols: AAPL, MSFT")
    signed_in.reload()
    wait_for_state(signed_in, "ready")
    assert made not in signed_in.content()
    row.get_by_role("button", name="Revoke").click()
    signed_in.get_by_role("dialog").get_by_role("button", name="Revoke the key").click()
    expect(row).to_contain_text("revoked")


@pytest.mark.parametrize(
    ("field", "text"),
    [("maxNotional", "1,000"), ("maxOrdersPerDay", "ten"), ("maxNotional", "0"), ("symbols", ",")],
)
def test_a_bound_that_cannot_be_read_makes_no_key(
    signed_in: Page, sandbox: Sandbox, field: str, text: str
) -> None:
    """It would be good for anything."""
    name = f"phone {uuid.uuid4().hex[:6]}"
    go(signed_in, "operate")
    signed_in.locator("#new-key [name=label]").fill(name)
    signed_in.locator(f"#new-key [name={field}]").fill(text)
    signed_in.get_by_role("button", name="Make a key").click()
    said = signed_in.locator(f"#new-key [name={field}]")
    assert "no bound" in said.evaluate("field => field.validationMessage")
    assert name not in json.dumps(sandbox.get("/keys"))
    said.fill("")
    signed_in.get_by_role("button", name="Make a key").click()
    expect(signed_in.locator("#keys tbody tr", has_text=name)).to_be_visible()


def test_the_audit_is_checked_and_the_connection_tried(signed_in: Page) -> None:
    go(signed_in, "operate")
    signed_in.get_by_role("button", name="Check the chain").click()
    expect(signed_in.locator("#audit-told")).to_contain_text("is whole")
    signed_in.get_by_role("button", name="Test the connection").click()
    expect(signed_in.locator("#probe")).to_contain_text("yes")


@pytest.mark.parametrize(
    ("services", "told"),
    [
        ([], "nobody is told of anything"),
        ([{"service": "ntfy", "sent": True}, {"service": "discord", "sent": False}], "not taken"),
    ],
)
def test_a_test_message_that_nobody_took_was_not_sent(
    signed_in: Page, services: list[dict[str, Any]], told: str
) -> None:
    signed_in.route("**/alerts/test", lambda route: route.fulfill(json={"services": services}))
    go(signed_in, "operate")
    signed_in.get_by_role("button", name="Send a test message").click()
    expect(signed_in.locator("#alerts-told")).to_contain_text(told)
    expect(signed_in.locator("#toast")).to_have_text("Not everybody has it")
    signed_in.unroute_all()


def test_a_connection_that_is_tried_is_waited_for(signed_in: Page) -> None:
    """A gateway that is not there takes twenty seconds to be told, as other answers do at most."""
    signed_in.add_init_script(
        """window.waits = []; const real = AbortSignal.timeout;
        AbortSignal.timeout = (wait) => { window.waits.push(wait); return real(wait); };"""
    )
    signed_in.reload()
    wait_for_state(signed_in, "ready")
    go(signed_in, "operate")
    signed_in.get_by_role("button", name="Test the connection").click()
    expect(signed_in.locator("#probe")).to_contain_text("yes")
    assert max(signed_in.evaluate("window.waits")) > 60_000


def test_a_second_look_finds_the_owners_screen_by_its_address(signed_in: Page) -> None:
    go(signed_in, "operate")
    signed_in.reload()
    wait_for_state(signed_in, "ready")
    expect(signed_in.locator("[data-screen='operate']")).to_be_visible()


# --- the sandbox ---------------------------------------------------------------------------------
def test_the_tour_starts_faults_and_ends_them(signed_in: Page, sandbox: Sandbox) -> None:
    go(signed_in, "sandbox")
    signed_in.get_by_role("button", name="Take the tour of five").click()
    expect(signed_in.locator("#tour-title")).to_contain_text("1 of 5")
    signed_in.get_by_role("button", name="Start it").click()
    expect(signed_in.locator("#fault-story")).to_contain_text("The gateway breaks off: at")
    signed_in.get_by_role("button", name="Next").click()
    expect(signed_in.locator("#tour-title")).to_contain_text("2 of 5")
    expect(signed_in.locator("#fault-state")).to_have_text("No fault is active.")
    signed_in.get_by_role("button", name="End the tour").click()
    expect(signed_in.locator("#tour")).to_be_hidden()
    wait_for_state(signed_in, "ready")


def test_each_fault_of_the_simulator_is_told_in_plain_words(
    signed_in: Page, sandbox: Sandbox
) -> None:
    go(signed_in, "sandbox")
    names = sandbox.get("/sandbox/faults")["names"]
    for name in names:
        told = signed_in.locator(f".fault:has([data-fault='{name}']) span")
        assert told.inner_text() != "", json.dumps(name)


def test_an_outage_since_the_record_was_read_is_drawn(signed_in: Page, sandbox: Sandbox) -> None:
    before = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    states = [{"at": before, "state": "ready", "cause": None}]
    past = {"days": 1, "since": before, "availability": 1.0, "states": states}
    signed_in.route("**/connection/availability?*", lambda route: route.fulfill(json=past))
    signed_in.reload()
    wait_for_state(signed_in, "ready")
    sandbox.fault("upstream-lost", 3.0)
    wait_for_state(signed_in, "upstream-lost")
    wait_for_state(signed_in, "ready")
    picture = signed_in.locator("#timeline svg")
    expect(picture).not_to_have_attribute("aria-label", _says("lost 0 s,"))
    signed_in.unroute_all()
