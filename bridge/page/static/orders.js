// Open orders: change, cancel, and say what became of one whose fate is unknown.

import { call, Problem } from "./api.js";
import { asked, button, confirmed, find, table } from "./elements.js";
import { contract, isNumber, number, words } from "./format.js";

const described = (order) =>
  `${order.action} ${number(order.quantity)} ${contract(order)} ${words(order.orderType)} ${number(order.limitPrice ?? order.stopPrice)}`.trim();

let act = null;
let may = () => false;
let maySettle = () => false;

export function prepareOrders(actor, allowed, settling) { [act, may, maySettle] = [actor, allowed, settling]; }

function actions(order) {
  const node = document.createElement("span");
  node.className = "actions";
  const settle = button("UNKNOWN: settle", (pressed) => settleOrder(order(), pressed));
  const change = button("Change", (pressed) => changeOrder(order(), pressed), { "aria-label": `Change ${described(order())}` });
  const cancel = button("Cancel", (pressed) => cancelOrder(order(), pressed), { "aria-label": `Cancel ${described(order())}` });
  node.append(settle, change, cancel);
  return node;
}

// What can be done is what helps now: an order of unknown fate is settled, any other is changed or cancelled.
function update(node, order) {
  const [settle, change, cancel] = node.children;
  settle.hidden = order.state !== "unknown" || !maySettle();
  change.hidden = !may("trade") || order.state === "unknown" || order.role === "other";
  cancel.hidden = !may("trade") || order.state === "unknown";
}

const COLUMNS = [
  { name: "Contract", read: contract },
  { name: "Side", read: (order) => order.action },
  { name: "Quantity", read: (order) => number(order.quantity), number: true },
  { name: "Type", read: (order) => words(order.orderType) },
  { name: "Limit", read: (order) => number(order.limitPrice), number: true },
  { name: "Stop", read: (order) => number(order.stopPrice), number: true },
  { name: "Filled", read: (order) => number(order.filled), number: true },
  { name: "Status", read: (order) => words(order.state === "unknown" ? "unknown" : order.status ?? order.state) },
  { name: "Actions", make: actions, update },
];

export function showOrders(known) {
  const away = known.health && !known.health.connected && known.orders.length > 0;
  find("orders-age").textContent = away ? "The broker is away: these are as it last told." : "";
  table(find("orders"), { columns: COLUMNS, rows: known.orders, key: (order) => order.orderId, empty: "No open orders" });
}

const address = (order) => `order/${encodeURIComponent(order.orderId)}`;

async function settleOrder(order, pressed) {
  find("settle-text").textContent = described(order);
  find("settle-status").value = ""; // never what was said of another order
  if (!await asked(find("settle"))) return;
  const body = { status: find("settle-status").value, note: "status page" };
  await act(pressed, () => call("POST", `${address(order)}/settle`, { body }), "Settled");
}

async function cancelOrder(order, pressed) {
  const answer = await confirmed("Cancel this order?", described(order), "Cancel the order");
  if (answer.agreed) await act(pressed, () => call("DELETE", address(order)), "Cancelled");
}

const FIELD_NAMES = { quantity: "the quantity", limitPrice: "the limit", stopPrice: "the stop" };

// Sent as it is, it would change nothing, and the page would say that it had.
function refuse(name) {
  throw new Problem(0, { detail: `Nothing is changed: ${FIELD_NAMES[name]} is no number`, nextStep: "Digits with a point, such as 1000.5" });
}

async function changeOrder(order, pressed) {
  find("change-text").textContent = described(order);
  const fields = { quantity: "change-quantity", limitPrice: "change-limit", stopPrice: "change-stop" };
  for (const [name, id] of Object.entries(fields)) find(id).value = order[name] ?? "";
  find("change-limit-label").hidden = order.limitPrice === null;
  find("change-stop-label").hidden = order.stopPrice === null;
  if (!await asked(find("change"))) return;
  const unread = Object.keys(fields).find((name) => order[name] !== null && !isNumber(find(fields[name]).value));
  if (unread) return void await act(pressed, () => refuse(unread), "");
  const body = {};
  for (const [name, id] of Object.entries(fields)) {
    const value = Number(find(id).value);
    if (order[name] !== null && value !== order[name]) body[name] = value;
  }
  if (!Object.keys(body).length) return;
  await act(pressed, () => call("PATCH", address(order), { body }), "Changed");
}
