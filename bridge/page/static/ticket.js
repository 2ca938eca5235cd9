// The order ticket: preview, repeat it in words, place. One idempotency key a ticket, kept until the bridge has said what
// became of it, also over a reload: asking again can never place it twice.

import { call, Problem } from "./api.js";
import { confirmed, element, facts, find } from "./elements.js";
import { money, number } from "./format.js";

const KEPT = "gangway-ticket";
const TIFS = { DAY: "for the day", GTC: "until cancelled", IOC: "at once or never" };
let ticket = null; // {key, body, words}
let done = () => {};
let mode = () => "";

export function prepareTicket(finished, tradingMode) {
  [done, mode] = [finished, tradingMode];
  const form = find("ticket");
  form.addEventListener("input", changed);
  form.addEventListener("submit", (event) => { event.preventDefault(); preview(); });
  find("place").addEventListener("click", () => placeAfterWord());
  adapt();
  showUnanswered();
}

// Fields that the kind or the type does not have are not shown, and not sent.
function adapt() {
  const form = find("ticket");
  for (const label of form.querySelectorAll("[data-for]")) label.hidden = !label.dataset.for.split(" ").includes(form.secType.value);
  for (const label of form.querySelectorAll("[data-price]")) {
    label.hidden = !label.dataset.price.split(" ").includes(form.orderType.value);
    label.querySelector("input").required = !label.hidden;
  }
}

function changed() {
  adapt();
  ticket = null;
  find("preview").hidden = true;
}

const NUMBERS = ["quantity", "limitPrice", "stopPrice", "strike"];

function bodyOf(form) {
  const body = {};
  for (const field of form.elements) {
    if (!field.name || field.closest("[hidden]")) continue;
    if (field.type === "checkbox") { if (field.checked) body[field.name] = true; continue; }
    const text = field.value.trim();
    if (text === "") continue;
    if (!NUMBERS.includes(field.name)) { body[field.name] = field.name === "symbol" ? text.toUpperCase() : text; continue; }
    const value = Number(text);
    if (!Number.isFinite(value)) throw new Error(`${field.name} is not a number: ${text}`);
    body[field.name] = value;
  }
  return body;
}

export function inWords(body, shown = {}) {
  const what = [body.symbol, body.expiration, body.strike, body.right].filter(Boolean).join(" ");
  const at = { LMT: `at a limit of ${body.limitPrice}`, MKT: "at the market", STP: `at the market once ${body.stopPrice} is reached`,
    STP_LMT: `at a limit of ${body.limitPrice} once ${body.stopPrice} is reached` }[body.orderType] ?? body.orderType;
  const worth = shown.notional ? `, about ${money(shown.notional, shown.currency)}` : "";
  return `${body.action} ${number(body.quantity)} ${what} ${at}, ${TIFS[body.tif] ?? body.tif}${worth}${shown.account ? `, account ${shown.account}` : ""}`;
}

const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, "0")).join("");

const told = (text) => { find("ticket-told").textContent = text; };

async function preview() {
  told("");
  const pressed = find("ticket").querySelector("button");
  pressed.disabled = true;
  try {
    const body = bodyOf(find("ticket"));
    const answer = await call("POST", "order/preview", { body });
    ticket = { key: newKey(), body, words: inWords(body, answer) };
    showPreview(answer);
  } catch (problem) {
    told(problem instanceof Problem ? problem.sentence : problem.message);
  } finally {
    pressed.disabled = false;
  }
}

function showPreview(answer) {
  find("preview-words").textContent = ticket.words;
  find("violations").replaceChildren(...answer.violations.map((each) => element("li", {}, each.message)));
  const margin = typeof answer.initMarginChange === "number" ? `${number(answer.initMarginChange)} (then ${number(answer.initMarginAfter)})` : "not told";
  facts(find("preview-facts"), [
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

async function placeAfterWord() {
  const asked = ticket;
  if (!asked) return;
  const real = mode() === "live" ? "This is real money." : "This is the paper account.";
  const answer = await confirmed("Place this order?", `${asked.words}. ${real}`, "Place the order");
  if (answer.agreed && asked === ticket) await place(asked);
}

async function place(asked) {
  sessionStorage.setItem(KEPT, JSON.stringify(asked));
  find("place").disabled = true;
  try {
    const order = await call("POST", "order", { body: asked.body, headers: { "Idempotency-Key": asked.key } });
    sessionStorage.removeItem(KEPT);
    told(`Placed: ${asked.words}. Status: ${order.status}.`);
    find("ticket").reset();
    changed();
  } catch (problem) {
    const refused = problem instanceof Problem && problem.status >= 400 && problem.status < 500 && ![408, 409, 425, 429].includes(problem.status);
    if (refused) { sessionStorage.removeItem(KEPT); ticket = null; find("preview").hidden = true; }
    told(problem instanceof Problem ? problem.sentence : "The bridge does not answer.");
  } finally {
    find("place").disabled = false;
    showUnanswered();
    done();
  }
}

// An order that was sent and not answered: nobody knows yet, and asking again with the same key finds out.
function showUnanswered() {
  const text = sessionStorage.getItem(KEPT);
  const notice = find("ticket-open");
  notice.hidden = text === null;
  if (text === null) return;
  const asked = JSON.parse(text);
  const again = element("button", { type: "button" }, "Ask what became of it");
  again.addEventListener("click", () => { ticket = asked; place(asked); });
  notice.replaceChildren(`Not answered yet: ${asked.words}. It is never placed twice. `, again);
}
