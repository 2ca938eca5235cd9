// Executions by day, with their profit and loss, as a table and as CSV.

import { call, download, pages, Problem, reader } from "./api.js";
import { find, table, toast } from "./elements.js";
import { contract, moment, number, signed } from "./format.js";
import { gain } from "./today.js";

let query = null; // null: today, as the refresh brings it
let found = { rows: [], more: false };
const MOST = 2000; // of one page of the answer

const midnight = (daysAgo) => {
  const day = new Date();
  day.setHours(0, 0, 0, 0);
  day.setDate(day.getDate() - daysAgo);
  return day;
};

// A day of a date field is the reader's own.
const local = (text, more = 0) => {
  const [year, month, day] = text.split("-").map(Number);
  return new Date(year, month - 1, day + more);
};

// Today's: all of them once, from then on what has come or changed since.
let today;
const forgetToday = () => { today = { since: "", rows: new Map(), later: "" }; };
const place = (cursor) => (cursor.startsWith("c-") ? Number(cursor.slice(2)) : 0);
// A journal that was restored, or lost, refuses a place that it has not reached.
const unlessUnknown = (cursor) => (problem) => {
  if (cursor && problem instanceof Problem && problem.code === "invalid-cursor") return null;
  throw problem;
};
forgetToday();

export async function readToday() {
  const since = midnight(0).toISOString();
  const begun = today;
  const known = begun.since === since ? begun : { since, rows: new Map(), later: "" };
  const path = `executions?${new URLSearchParams({ since, limit: MOST })}`;
  let cursor = known.later;
  do {
    const answer = await call("GET", cursor ? `${path}&cursor=${encodeURIComponent(cursor)}` : path).catch(unlessUnknown(cursor));
    if (!answer || place(answer.changesCursor) < place(cursor)) { // another journal than before, such as a restored one
      forgetToday();
      return readToday();
    }
    for (const row of answer.executions) known.rows.set(row.execId, row);
    if (!cursor.startsWith("t-")) known.later = answer.changesCursor; // what changes during later pages comes after them
    cursor = answer.nextCursor ?? "";
  } while (cursor);
  if (begun === today) today = known; // else somebody has signed out meanwhile
  return [...known.rows.values()].sort((a, b) => Date.parse(a.time) - Date.parse(b.time));
}

const COLUMNS = [
  { name: "Time", read: (item) => moment(item.time) },
  { name: "Contract", read: contract },
  { name: "Side", read: (item) => item.side },
  { name: "Quantity", read: (item) => number(item.quantity), number: true },
  { name: "Price", read: (item) => number(item.price), number: true },
  { name: "Commission", read: (item) => number(item.commission), number: true },
  { name: "Realized", read: (item) => signed(item.realizedPnl, item.currency), number: true, tone: (item) => gain(item.realizedPnl) },
  { name: "Account", read: (item) => item.account },
];

export function showExecutions(known) {
  const listed = query === null ? { rows: known.executions, more: false } : found;
  const rows = [...listed.rows].reverse();
  table(find("executions"), { columns: COLUMNS, rows, key: (item) => item.execId, empty: "No executions in this time" });
  find("executions-sum").textContent = sumWords(listed);
}

// What was earned is in the currency of what was traded, what was paid for it in the broker's.
function sumWords({ rows, more }) {
  const sums = new Map();
  const add = (name, currency, amount) => {
    const sum = sums.get(currency) ?? { realized: 0, commission: 0 };
    sum[name] += amount ?? 0;
    sums.set(currency, sum);
  };
  for (const item of rows) {
    add("realized", item.currency, item.realizedPnl);
    add("commission", item.commissionCurrency || item.currency, item.commission);
  }
  const told = [...sums].map(([currency, sum]) => `realized ${signed(sum.realized, currency)}, commission ${number(sum.commission)} ${currency}`);
  if (!told.length) return "";
  return `${more ? "Only the first " : ""}${rows.length} executions; ${told.join("; ")}${more ? ". There are more: choose fewer days, or save them as CSV" : ""}`;
}

function address(format = "") {
  const parts = new URLSearchParams({ ...(query ?? { since: midnight(0).toISOString() }), limit: MOST });
  if (format) parts.set("format", format);
  return `executions?${parts}`;
}

export async function loadExecutions() {
  if (query === null) return;
  found = await readPages() ?? found;
}

const readPages = reader(() => pages(address(), "executions"));

function ask(wanted) {
  query = wanted;
  loadExecutions().then(() => document.dispatchEvent(new Event("redraw")), (problem) => toast(problem.message));
}

export function forgetExecutions() {
  readPages.overtake();
  [query, found] = [null, { rows: [], more: false }];
  forgetToday();
}

export function prepareExecutions() {
  const form = find("executions-filter");
  const press = (pressed) => {
    for (const each of form.querySelectorAll("[data-days]")) each.setAttribute("aria-pressed", String(each === pressed));
  };
  for (const button of form.querySelectorAll("[data-days]")) {
    button.addEventListener("click", () => {
      press(button);
      const days = Number(button.dataset.days);
      ask(days === 0 ? null : { since: midnight(days).toISOString(), ...(days === 1 ? { until: midnight(0).toISOString() } : {}) });
    });
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    press(null);
    const wanted = {};
    if (form.from.value) wanted.since = local(form.from.value).toISOString();
    if (form.to.value) wanted.until = local(form.to.value, 1).toISOString();
    if (form.symbol.value.trim()) wanted.symbol = form.symbol.value.trim().toUpperCase();
    ask(wanted);
  });
  find("csv").addEventListener("click", () => download(address("csv"), "executions.csv").catch((problem) => toast(problem.message)));
}
