// What is held and what it is worth, by underlying; cash by currency; the margin.

import { optional, reader } from "./api.js";
import { facts, find, table } from "./elements.js";
import { contract, money, number, percent, signed } from "./format.js";
import { gain } from "./today.js";

// Shares first, then what is derived from them, each underlying together.
function grouped(positions) {
  const order = { STK: 0, CASH: 1, FUT: 2, BAG: 3, OPT: 4, FOP: 5 };
  return [...positions].sort((a, b) => a.symbol.localeCompare(b.symbol) || (order[a.secType] ?? 9) - (order[b.secType] ?? 9)
    || (a.expiration ?? "").localeCompare(b.expiration ?? "") || (a.strike ?? 0) - (b.strike ?? 0));
}

// An option's greeks come with its position. Reading it keeps the lines open from which the bridge has them; the stream alone
// does not.
const FRESH = 20_000;
let readAt = 0;
let seen = new Map(); // conId: position

const read = reader(() => optional("positions").catch(() => null));

export async function loadGreeks(positions) {
  if (Date.now() - readAt < FRESH || !(positions ?? []).some((row) => ["OPT", "FOP"].includes(row.secType))) return;
  readAt = Date.now();
  const found = await read();
  if (found !== undefined) seen = new Map((found?.positions ?? []).map((row) => [row.conId, row]));
}

export const forgetGreeks = () => {
  read.overtake();
  readAt = 0;
  seen = new Map();
};

const greek = (row, name) => row[name] ?? seen.get(row.conId)?.[name];

const greeks = (row) => ["delta", "gamma", "theta", "vega"].filter((name) => typeof greek(row, name) === "number")
  .map((name) => `${{ delta: "Δ", gamma: "Γ", theta: "Θ", vega: "V" }[name]} ${number(Number(greek(row, name).toPrecision(3)))}`).join(" ");

const expires = (row) => (row.expiration ? (typeof row.dte === "number" ? `in ${row.dte} ${row.dte === 1 ? "day" : "days"}` : row.expiration) : "");

const COLUMNS = [
  { name: "Contract", read: contract },
  { name: "Quantity", read: (row) => number(row.quantity), number: true },
  { name: "Price", read: (row) => number(row.marketPrice), number: true },
  { name: "Value", read: (row) => money(row.marketValue, row.currency), number: true },
  { name: "Average cost", read: (row) => number(row.averageCost), number: true },
  { name: "Today", read: (row) => signed(row.dailyPnl, row.currency), number: true, tone: (row) => gain(row.dailyPnl) },
  { name: "Unrealized", read: (row) => signed(row.unrealizedPnl, row.currency), number: true, tone: (row) => gain(row.unrealizedPnl) },
  { name: "Expires", read: expires },
  { name: "Greeks", read: greeks },
];

// What is held, as far as is known, and the broker has not listed: it comes with the next rows or never.
export function unlisted(answer) {
  const listed = new Set((answer?.positions ?? []).map((row) => `${row.account} ${row.conId}`));
  const missing = (answer?.unconfirmed ?? []).filter((each) => !listed.has(`${each.account} ${each.conId}`));
  return [...new Set(missing.map((each) => each.symbol))];
}

export function showPositions(known) {
  const positions = grouped(known.positions ?? []);
  const yetToCome = known.unlisted.length ? `Not listed by the broker yet: ${known.unlisted.join(", ")}` : "";
  const empty = known.positions ? yetToCome || "Nothing is held" : "Not known now";
  table(find("positions"), { columns: COLUMNS, rows: positions, key: (row) => `${row.account} ${row.conId}`, empty });
  const underlyings = new Set(positions.map((row) => row.symbol)).size;
  const unsure = positions.filter((row) => row.confirmed === false).length;
  find("positions-sum").textContent = positions.length
    ? `${positions.length} in ${underlyings} ${underlyings === 1 ? "underlying" : "underlyings"}${unsure ? `; ${unsure} not confirmed by the broker since the last fill` : ""}${yetToCome ? `. ${yetToCome}` : ""}`
    : "";
  showMoney(known.account?.accounts ?? []);
}

function cashOf(account) {
  if (Array.isArray(account.cash)) return account.cash.map((each) => ({ ...each, account: account.account }));
  return (account.values ?? []).filter((each) => each.tag === "CashBalance" && each.currency && each.currency !== "BASE")
    .map((each) => ({ account: account.account, currency: each.currency, cash: Number(each.value) }));
}

function showMoney(accounts) {
  const cash = accounts.flatMap(cashOf);
  const total = accounts.map((each) => ({ account: each.account, currency: each.currency, cash: each.totalCash }));
  table(find("cash"), {
    columns: [
      { name: "Account", read: (row) => row.account }, { name: "Currency", read: (row) => row.currency },
      { name: "Cash", read: (row) => number(row.cash), number: true },
    ],
    rows: cash.length ? cash : total,
    key: (row) => `${row.account} ${row.currency}`,
    empty: "Not known now",
  });
  const one = accounts[0];
  facts(find("margin"), one ? [
    ...(accounts.length > 1 ? [["Of account", one.account]] : []),
    ["Net liquidation", money(one.netLiquidation, one.currency)],
    ["Buying power", money(one.buyingPower, one.currency)],
    ["Available funds", money(one.availableFunds, one.currency)],
    ["Maintenance margin", money(one.maintenanceMargin, one.currency)],
    ["Cushion", percent(one.cushion)],
  ] : []);
}
