// How values are written for people. Times are shown in the reader's own zone.

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
const YEAR = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });

export function clock(when) {
  return when ? CLOCK.format(new Date(when)) : "never";
}

export function moment(when, now = Date.now()) {
  if (!when) return "never";
  const date = new Date(when);
  if (Math.abs(now - date) < 86_400_000 / 2) return CLOCK.format(date);
  return (date.getFullYear() === new Date(now).getFullYear() ? DAY : YEAR).format(date);
}

export function age(when, now = Date.now()) {
  return when ? `${span((now - new Date(when)) / 1000)} ago` : "never";
}

export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 172_800) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} days`;
}

const MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

// What a row is about: `AAPL`, `ES 18DEC26`, or `AAPL 15JAN27 185 P`.
export function contract(row) {
  const day = /^(\d{2})(\d{2})(\d{2})(\d{2})/.exec(row.expiration ?? "");
  const parts = [row.symbol, day ? `${day[4]}${MONTHS[day[3] - 1] ?? "?"}${day[2]}` : "", row.strike ?? "", row.right ?? ""];
  if (row.secType === "CASH" && row.currency) parts[0] = `${row.symbol}.${row.currency}`;
  return parts.filter((part) => part !== "").join(" ");
}

export function yes(value) {
  return value === true ? "yes" : value === false ? "no" : "unknown";
}

export function words(name) {
  return String(name ?? "unknown").replaceAll("-", " ").replaceAll("_", " ");
}

export function percent(share) {
  return share === null || share === undefined ? "unknown" : `${(share * 100).toFixed(share < 0.9995 ? 2 : 1)} %`;
}

const NUMBER = new Intl.NumberFormat(undefined, { maximumFractionDigits: 8 });
const MONEY = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });

// Of a field: an empty one is Number("") === 0 and says nothing.
export const isNumber = (text) => text.trim() !== "" && Number.isFinite(Number(text));

export const number = (value) => (typeof value === "number" ? NUMBER.format(value) : "");

export const money = (value, currency = "") => (typeof value === "number" ? `${MONEY.format(value)} ${currency ?? ""}`.trim() : "not known");

// A gain or a loss, told by its sign and not by its colour alone.
export const signed = (value, currency = "") => (typeof value === "number" ? `${value > 0 ? "+" : ""}${money(value, currency)}` : "");
