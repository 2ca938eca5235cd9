// The first screen: the login, what is planned, the market's hours, the money, and how available the session was.

import { optional, reader } from "./api.js";
import { segments, timeline } from "./charts.js";
import { facts, find } from "./elements.js";
import { money, moment, percent, signed, span, words } from "./format.js";
import { isHalted, stateTone, takesOrders } from "./verdict.js";

const DAY = 86_400_000;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
let hours = null; // of a share that trades in New York: {zone, sessions: [[from, to], …]} as the broker says
let askAt = 0; // when the hours are asked for again
let past = null; // {days, states}: what the bridge has recorded
let pastAt = 0;

// Read again and again while somebody looks: a page that is open for days shows what has been since.
export async function loadToday() {
  if (Date.now() > askAt) {
    askAt = Date.now() + MINUTE;
    marketHours().then((found) => { if (found) [hours, askAt] = [found, Date.now() + HOUR]; }, () => {});
  }
  const days = Number(find("timeline-days").value);
  if (past?.days === days && Date.now() - pastAt < MINUTE) return;
  const read = await readPast(days);
  if (read?.answer || (read && past?.days !== days)) [past, pastAt] = [read, read.answer ? Date.now() : 0];
}

export const forgetToday = () => {
  readPast.overtake();
  [past, pastAt] = [null, 0];
};

const readPast = reader(async (days) => ({ days, answer: await optional(`connection/availability?days=${days}`).catch(() => null) }));

async function marketHours() {
  const answer = await optional("contracts?symbol=SPY");
  return answer?.contracts?.[0] ?? null;
}

const held = (positions, unlisted) => {
  if (!positions) return "not known";
  const parts = [positions.length || !unlisted.length ? String(positions.length) : "", unlisted.length ? `${unlisted.length} not listed yet` : ""];
  return parts.filter(Boolean).join("; ");
};

export function showToday(known, now) {
  const { health, account, pnl, orders, executions, positions, unlisted } = known;
  if (!health) return;
  facts(find("session"), [
    ["State", words(health.state), stateTone(health)],
    ["Login", loginWords(health.login, now), health.login?.state === "logged-in" ? "up" : health.login?.code ? "person" : ""],
    ["Next planned restart", restartWords(health, now)],
    ["Trading", isHalted(health) ? "halted" : takesOrders(health) ? "orders are accepted" : "no order can be placed now", isHalted(health) ? "person" : ""],
    ["Market data", words(health.marketDataType), /delayed|frozen/.test(health.marketDataType) ? "person" : ""],
    ["US stocks", hoursWords(hours, now)],
  ]);
  const worth = account?.accounts?.[0];
  const day = pnl?.pnl?.find((each) => each.conId === null && each.account === worth?.account);
  facts(find("money"), [
    ["Account", worth ? `${worth.account}${account.accounts.length > 1 ? ` and ${account.accounts.length - 1} more` : ""}` : "not known"],
    ["Net liquidation", money(worth?.netLiquidation, worth?.currency)],
    ["Profit and loss of the day", signed(day?.daily, worth?.currency), gain(day?.daily)],
    ["Unrealized", signed(day?.unrealized, worth?.currency), gain(day?.unrealized)],
    ["Positions", held(positions, unlisted)],
    ["Open orders", String(orders.length)],
    ["Executions today", String(executions.length)],
  ]);
  showTimeline(known, now);
}

export const gain = (value) => (typeof value !== "number" || value === 0 ? "" : value > 0 ? "up" : "lost");

export function loginWords(login, now) {
  if (!login) return "not reported";
  const left = login.until ? Math.round((Date.parse(login.until) - now) / 1000) : 0;
  const more = [words(login.state), login.kind ?? login.why ?? login.window ?? login.code].filter(Boolean).join(": ");
  return left > 0 ? `${more}, ${span(left)} left` : more;
}

function restartWords(health, now) {
  if (health.restartUnderWay) return "under way";
  const next = health.nextRestart;
  if (!next) return "none known";
  const kind = next.kind === "cold" ? "with a full login" : next.kind === "auto-logoff" ? "log-off" : "without a login";
  return `${moment(next.at, now)} (in ${span((Date.parse(next.at) - now) / 1000)}), ${kind}`;
}

// The broker writes `20261130:0930-20261130:1600;20261201:CLOSED` in the exchange's own time.
function sessionsOf(text) {
  return (text ?? "").split(";").map((each) => /^(\d{8}):(\d{4})-(\d{8}):(\d{4})$/.exec(each)).filter(Boolean)
    .map(([, day, from, last, to]) => [`${day}${from}`, `${last}${to}`]);
}

function inZone(zone, now) {
  const parts = new Intl.DateTimeFormat("en-CA", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).formatToParts(new Date(now));
  const part = (type) => parts.find((each) => each.type === type).value;
  return `${part("year")}${part("month")}${part("day")}${part("hour")}${part("minute")}`;
}

function hoursWords(contract, now) {
  if (!contract?.liquidHours) return "not known";
  let local;
  try { local = inZone(contract.timeZone, now); } catch { return "not known"; }
  const sessions = sessionsOf(contract.liquidHours);
  const at = (stamp) => `${stamp.slice(8, 10)}:${stamp.slice(10, 12)}`;
  const open = sessions.find(([from, to]) => from <= local && local < to);
  if (open) return `open until ${at(open[1])} New York`;
  const next = sessions.find(([from]) => from > local);
  if (!next) return "not known"; // the broker tells a few days ahead
  const day = next[0].slice(0, 8) === local.slice(0, 8) ? "today" : `${next[0].slice(4, 6)}-${next[0].slice(6, 8)}`;
  return `closed until ${day} ${at(next[0])} New York`;
}

function showTimeline(known, now) {
  const { events, health } = known;
  const days = past?.days ?? 1;
  const recorded = past?.answer?.states;
  const states = (recorded ?? []).map((each) => ({ at: Date.parse(each.at), state: each.state, cause: each.cause }));
  const read = states.at(-1)?.at ?? -Infinity; // what came since is among the events
  states.push(...events.filter((event) => event.kind === "state").map((event) => ({ at: Date.parse(event.at), state: event.detail.state, cause: event.detail.cause })).filter((each) => each.at > read));
  states.push({ at: Date.parse(health.since), state: health.state });
  timeline(find("timeline"), segments(states, now, days * DAY), now, days * DAY, find("timeline-part"));
  const first = Math.min(...states.map((event) => event.at));
  const seconds = Math.min((now - first) / 1000, days * 86_400);
  const share = recorded && past.answer.availability !== null ? past.answer.availability : health.metrics?.availability24h;
  find("availability").textContent = seconds < 600
    ? "No record yet: availability is told after ten minutes."
    : `Available ${percent(share)} of the last ${seconds > days * 86_000 ? span(days * 86_400) : span(seconds)}.`;
}

find("timeline-days").addEventListener("change", () => loadToday().then(() => document.dispatchEvent(new Event("redraw"))));
