// The order ticket: preview, repeat it in words, place. One idempotency key a ticket, kept until the bridge has said what
// became of it, also over a reload and beside other tickets: asking again can never place it twice.

import { call, pages, Problem } from "./api.js";
import { button, confirmed, element, facts, find } from "./elements.js";
import { isNumber, money, number } from "./format.js";

const KEPT = "gangway-ticket";
const TIFS = { DAY: "for the day", GTC: "until cancelled", IOC: "at once or never" };
let ticket = null; // {key, body, words, until}
let edition = 0; // counts what the form has held: a preview of an earlier one is not shown
let done = () => {};
let mode = () => "";

export function prepareTicket(finished, tradingMode) {
  [done, mode] = [finished, tradingMode];
  const form = find("ticket");
  form.addEventListener("input", changed);
  find("add-leg").addEventListener("click", () => { addLeg(); changed(); });
  form.addEventListener("submit", (event) => { event.preventDefault(); preview(); });
  find("place").addEventListener("click", () => placeAfterWord());
  adapt();
}

// Fields that the kind or the type does not have are not shown, and not sent.
function adapt() {
  const form = find("ticket");
  for (const label of form.querySelectorAll("[data-for]")) label.hidden = !label.dataset.for.split(" ").includes(form.secType.value);
  for (const label of form.querySelectorAll("[data-price]")) {
    label.hidden = !label.dataset.price.split(" ").includes(form.orderType.value);
    label.querySelector("input").required = !label.hidden && !OPTIONAL.has(`${form.orderType.value} ${label.querySelector("input").name}`);
  }
  const combined = form.secType.value === "BAG";
  const legs = find("legs");
  while (combined && legs.children.length < 2) addLeg();
  legs.hidden = !combined;
  find("add-leg").hidden = !combined || legs.children.length >= MOST_LEGS;
}

const OPTIONAL = new Set(["MIDPRICE limitPrice", "PEG_MID limitPrice"]);
const MOST_LEGS = 4;

// A combination's part: side, ratio, and an option, or the share itself where no strike is given.
function addLeg() {
  const number = find("legs").children.length + 1;
  const field = (name, properties) => element("input", { name, ...properties });
  const choice = (name, options) => element("select", { name }, ...options.map(([value, text]) => element("option", { value }, text)));
  find("legs").append(element("fieldset", { className: "leg" },
    element("legend", {}, `Leg ${number}`),
    element("label", {}, "Side ", choice("leg-action", [["BUY", "Buy"], ["SELL", "Sell"]])),
    element("label", {}, "Ratio ", field("leg-ratio", { inputMode: "numeric", value: "1" })),
    element("label", {}, "Expiration ", field("leg-expiration", { inputMode: "numeric", placeholder: "20261218, or empty: the share", maxLength: 8 })),
    element("label", {}, "Strike ", field("leg-strike", { inputMode: "decimal" })),
    element("label", {}, "Right ", choice("leg-right", [["C", "Call"], ["P", "Put"]]))));
}

function legsOf(symbol) {
  return [...find("legs").children].map((node) => {
    const value = (name) => node.querySelector(`[name=leg-${name}]`).value.trim();
    const leg = { action: value("action"), ratio: numberIn("ratio", value("ratio") || "1"), symbol };
    if (value("strike") === "" && value("expiration") === "") return { ...leg, secType: "STK" };
    return { ...leg, secType: "OPT", expiration: value("expiration"), strike: numberIn("strike", value("strike")), right: value("right") };
  });
}

function numberIn(name, text) {
  if (!isNumber(text)) throw new Error(`${name} is not a number: ${text}`);
  return Number(text);
}

function changed() {
  adapt();
  edition += 1;
  ticket = null;
  find("preview").hidden = true;
}

const NUMBERS = ["quantity", "limitPrice", "stopPrice", "strike", "trailPercent", "limitOffset"];

function bodyOf(form) {
  const body = {};
  for (const field of form.elements) {
    if (!field.name || field.name.startsWith("leg-") || field.closest("[hidden]:not([data-screen])")) continue;
    if (field.type === "checkbox") { if (field.checked) body[field.name] = true; continue; }
    const text = field.value.trim();
    if (text === "") continue;
    if (!NUMBERS.includes(field.name)) { body[field.name] = field.name === "symbol" ? text.toUpperCase() : text; continue; }
    body[field.name] = numberIn(field.name, text);
  }
  if (body.secType === "BAG") body.legs = legsOf(body.symbol);
  return body;
}

const legWords = (leg) => `${leg.action} ${leg.ratio} ${leg.secType === "STK" ? leg.symbol : `${leg.expiration} ${leg.strike} ${leg.right}`}`;

function inWords(body, shown = {}) {
  const legs = body.legs ? ` (${body.legs.map(legWords).join(", ")})` : "";
  const what = [body.symbol, body.expiration, body.strike, body.right].filter(Boolean).join(" ") + legs;
  const [limit, stop] = [`at a limit of ${body.limitPrice}`, `once ${body.stopPrice} is reached`];
  const capped = body.limitPrice === undefined ? "" : `, ${limit}`;
  const trail = `at the market once it turns by ${body.trailPercent} %`;
  const at = {
    LMT: limit, MKT: "at the market", STP: `at the market ${stop}`, STP_LMT: `${limit} ${stop}`, MIT: `at the market ${stop}`, LIT: `${limit} ${stop}`,
    TRAIL: trail, TRAIL_LMT: `${trail}, with a limit ${body.limitOffset} beyond`, MOC: "at the close", LOC: `at the close ${limit}`,
    MIDPRICE: `between bid and ask${capped}`, REL: `beside the best price, ${limit}`, PEG_MID: `at the middle${capped}`, MTL: "at the market, the rest at the price of the first fill",
  }[body.orderType] ?? body.orderType;
  const session = body.outsideRth ? ", outside regular hours, too" : "";
  const worth = shown.notional ? `, about ${money(shown.notional, shown.currency)}` : "";
  return `${body.action} ${number(body.quantity)} ${what} ${at}, ${TIFS[body.tif] ?? body.tif}${session}${worth}${shown.account ? `, account ${shown.account}` : ""}`;
}

const hex = (bytes) => [...bytes].map((each) => each.toString(16).padStart(2, "0")).join("");

const newKey = () => hex(crypto.getRandomValues(new Uint8Array(16)));

const told = (text) => { find("ticket-told").textContent = text; };

async function preview() {
  told("");
  changed(); // what was previewed before is not placed while another is on its way
  const [asked, pressed] = [edition, find("ticket").querySelector("[type=submit]")];
  const focused = document.activeElement === pressed;
  pressed.disabled = true;
  try {
    const body = bodyOf(find("ticket"));
    const answer = await call("POST", "order/preview", { body });
    if (asked !== edition) return; // the form holds another order by now
    const made = { key: newKey(), body, words: inWords(body, answer), until: Date.now() + GOOD_FOR };
    ticket = made;
    showPreview(answer);
    setTimeout(() => { if (ticket === made) isOld(); }, GOOD_FOR + 1000);
  } catch (problem) {
    if (asked === edition) told(problem instanceof Problem ? problem.sentence : problem.message);
  } finally {
    pressed.disabled = false;
    if (focused && document.activeElement === document.body) pressed.focus(); // a disabled button loses it
  }
}

const GOOD_FOR = 5 * 60_000;

// Prices and margin of long ago are not what an order is placed by. One that was sent already is not lost over it.
function isOld() {
  const sent = unanswered().some((each) => each.key === ticket.key);
  if (sent || Date.now() < ticket.until) return false;
  changed();
  told("The preview is more than five minutes old: preview the order again.");
  return true;
}

function showPreview(answer) {
  find("preview-words").textContent = ticket.words;
  find("violations").replaceChildren(...answer.violations.map((each) => element("li", {}, each.message)));
  const margin = typeof answer.initMarginChange === "number" ? `${number(answer.initMarginChange)} (then ${number(answer.initMarginAfter)})` : "not told";
  facts(find("preview-facts"), [
    ...(answer.net ? [["Net", answer.net]] : []),
    ...(typeof answer.maxLoss === "number" ? [["Most that can be lost", number(answer.maxLoss)]] : []),
    ["Commission", answer.commission === null ? "not told" : money(answer.commission, answer.commissionCurrency)],
    ["Initial margin changes by", margin],
    ["Equity with loan after it", number(answer.equityWithLoanAfter) || "not told"],
    ["Price it is judged by", number(answer.referencePrice) || "none"],
    ["The broker warns", answer.warning || "of nothing"],
  ]);
  find("place").hidden = answer.violations.length > 0;
  find("preview").hidden = false;
  find("preview-title").focus();
}

const reality = () => (mode() === "paper" ? "This is the paper account." : "This is real money.");

async function placeAfterWord() {
  const asked = ticket;
  if (!asked || isOld()) return;
  const answer = await confirmed("Place this order?", `${asked.words}. ${reality()}`, "Place the order");
  if (answer.agreed && asked === ticket && !isOld()) await place(asked);
}

async function place(asked) {
  const repeated = unanswered().some((each) => each.key === asked.key);
  const sent = { ...asked, at: Date.now() }; // also of a repetition, which may be under way for as long
  keep(repeated ? unanswered().map((each) => (each.key === asked.key ? sent : each)) : [...unanswered(), sent]);
  find("place").disabled = true;
  try {
    const order = await call("POST", "order", { body: asked.body, headers: { "Idempotency-Key": asked.key } });
    forget(asked);
    told(`Placed: ${asked.words}. Status: ${order.status}.`);
    if (ticket?.key === asked.key) emptyForm();
  } catch (problem) {
    if (isNotPlaced(problem, repeated)) {
      forget(asked);
      if (ticket?.key === asked.key && !LATER.includes(problem.status)) changed();
    }
    told(problem instanceof Problem ? problem.sentence : "The bridge does not answer.");
  } finally {
    find("place").disabled = false;
    showUnanswered();
    done();
  }
}

function emptyForm() {
  find("ticket").reset();
  find("legs").replaceChildren();
  changed();
}

const LATER = [429, 503];
const NOTHING_SENT = ["not-connected", "order-not-sent"];

// The answer to a repetition says nothing of the attempt before, which may still be under way.
function isNotPlaced(problem, repeated) {
  if (!(problem instanceof Problem)) return false;
  if (problem.code === "order-rejected") return true;
  if (repeated) return false;
  return NOTHING_SENT.includes(problem.code) || (problem.status >= 400 && problem.status < 500 && ![408, 409, 425].includes(problem.status));
}

// Orders that were sent and not answered, the oldest first: nobody knows yet what became of them.
const unanswered = () => [JSON.parse(sessionStorage.getItem(KEPT) ?? "[]")].flat();

function keep(list) {
  if (list.length) sessionStorage.setItem(KEPT, JSON.stringify(list));
  else sessionStorage.removeItem(KEPT);
}

const forget = (asked) => keep(unanswered().filter((each) => each.key !== asked.key));

export function showUnanswered() {
  const list = unanswered();
  find("ticket-open").hidden = list.length === 0;
  find("ticket-open").replaceChildren(...list.map((asked) => element("p", {},
    `Not answered yet: ${asked.words}. It is never placed twice. `,
    button("Ask what became of it", (pressed) => ask(asked, pressed)))));
}

// Looked for first: sent again, an order that never arrived would be placed now, at a price of long ago.
async function ask(asked, pressed) {
  pressed.disabled = true;
  try {
    const order = await inJournal(asked);
    if (order === undefined) { // no way to look for it: a person decides
      const answer = await confirmed("Send this order again?", `${asked.words}. It is never placed twice; one that never arrived is placed now. ${reality()}`, "Send it again");
      if (answer.agreed) await place(asked);
    } else if (order && order.status !== "NotSent") {
      await place(asked); // known by its key: this only asks
    } else if (order || Date.now() - (asked.at ?? 0) > SETTLED) {
      forget(asked);
      told(`Not placed: ${asked.words}. It never reached the broker.`);
    } else told("The bridge does not have it, and it may still be on its way: ask again in a minute.");
  } catch (problem) {
    told(problem instanceof Problem ? problem.sentence : "The bridge does not answer.");
  } finally {
    showUnanswered();
  }
}

const SETTLED = 60_000; // the bridge answers any request, or gives it up, well within this

// The order of this ticket, null: there is none, undefined: this browser cannot tell. The reference at the broker begins
// with the digest of the key.
async function inJournal(asked) {
  if (!crypto.subtle) return undefined;
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(asked.key));
  const name = `gw-${hex(new Uint8Array(digest)).slice(0, 24)}-`;
  const { rows } = await pages("orders?limit=500", "orders");
  return rows.find((order) => order.orderRef.startsWith(name)) ?? null;
}

// Another reader of this page is not shown what was placed; what is not answered stays until it is.
export function forgetTicket(keepUnanswered) {
  if (!keepUnanswered) keep([]);
  emptyForm();
  told("");
  find("ticket-open").hidden = true;
  find("ticket-open").replaceChildren();
}
