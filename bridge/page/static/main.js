// Starts the page: sign in, one stream, the screens, and the buttons of every screen.

import { call, key, optional, pages, permitted, Problem, reader } from "./api.js";
import { showConnection } from "./connection.js";
import { confirmed, find, toast } from "./elements.js";
import { forgetExecutions, loadExecutions, prepareExecutions, readToday, showExecutions } from "./executions.js";
import { drawFaults, noteState, plainly, prepareTour } from "./faults.js";
import { forgetInstrument, prepareInstrument } from "./instrument.js";
import { forgetOperate, loadOperate, prepareOperate, showOperate } from "./operate.js";
import { prepareOrders, showOrders } from "./orders.js";
import { forgetGreeks, loadGreeks, showPositions, unlisted } from "./positions.js";
import { forgetRules, loadRules, prepareRules, showRules } from "./rules.js";
import { OLD_AFTER, Stream } from "./stream.js";
import { forgetTicket, prepareTicket, showUnanswered } from "./ticket.js";
import { forgetToday, loadToday, showToday } from "./today.js";
import { isHalted, showFreshness, showHalt, showVerdict } from "./verdict.js";

const SLOW = 15_000;
const MONEY = 5_000;
const BEATS = 60;
const SCOPES = ["public", "history", "read", "trade", "admin"];
const NOTHING = {
  health: null, events: [], session: null, halt: null, orders: [], executions: [], positions: null, unlisted: [], account: null, pnl: null,
  beats: [], sandbox: undefined, scope: "read", trading: false,
};
const known = { ...NOTHING };
let stream = null;
let link = "none";
let screen = "today";

const may = (scope) => SCOPES.indexOf(known.scope) >= SCOPES.indexOf(scope);

const SCREENS = {
  today: { load: loadToday, show: showToday },
  positions: { load: loadPositions, show: showHoldings },
  orders: { show: showOrders },
  executions: { load: loadExecutions, show: showExecutions },
  instrument: {},
  connection: { show: showConnection },
  operate: { load: loadOperate, show: showOperate },
  sandbox: {},
};

async function loadPositions() {
  await Promise.all([loadRules(), loadGreeks(known.positions)]);
}

function showHoldings(what) {
  showPositions(what);
  showRules();
}

function draw() {
  const now = Date.now();
  if (known.health) showVerdict(known.health);
  showHalt(known.halt, known.health, may);
  for (const each of Object.values(SCREENS)) if (known.health || each.show !== showToday) each.show?.(known, now);
}

const freshness = () => showFreshness(stream?.heard, link, Date.now(), OLD_AFTER);

// What the key may not do is not shown.
function fit() {
  for (const node of document.querySelectorAll("[data-scope]:not([data-screen]):not(#recover)")) {
    node.hidden = !may(node.dataset.scope) || (node.dataset.trading !== undefined && !known.trading);
  }
  find("recover").disabled = !may("admin");
  find("sandbox-link").hidden = !known.sandbox;
}

// --- screens ---------------------------------------------------------------------------------
function go() {
  const wanted = location.hash.slice(1);
  screen = SCREENS[wanted] && (wanted !== "operate" || may("admin")) ? wanted : "today";
  for (const node of document.querySelectorAll("[data-screen]")) node.hidden = node.dataset.screen !== screen;
  for (const node of document.querySelectorAll("#screens a")) {
    if (node.hash === `#${screen}`) { node.setAttribute("aria-current", "page") }
    else node.removeAttribute("aria-current");
  }
  if (!stream) return;
  load();
  refreshMoney().catch(tell);
}

async function load() {
  try {
    await SCREENS[screen].load?.();
    draw();
  } catch (problem) { tell(problem); }
}

// --- what is known ---------------------------------------------------------------------------
const readAll = reader(() => Promise.all([
  call("GET", "health"), optional("connection/events"), optional("trading/halt"),
  permitted(pages("orders?open=true&limit=500", "orders")), permitted(readToday()),
]));

// The Client Portal may take seconds to answer; orders do not wait for it.
const readSession = reader(() => optional("session"));

async function refreshSession() {
  const by = stream;
  const session = await readSession().catch(silent); // how it stood before is not how it stands
  if (session === undefined || by !== stream) return;
  known.session = session;
  draw();
}

async function refresh() {
  const by = stream;
  refreshSession().catch(silent);
  const answer = await readAll();
  if (!answer || by !== stream) return; // overtaken by a newer answer, or signed out meanwhile
  const [health, events, halt, orders, executions] = answer;
  Object.assign(known, { health, halt, events: events?.events ?? [], executions: executions ?? [] });
  known.orders = (orders?.rows ?? []).filter((order) => order.state !== "terminal");
  draw();
  await showFaults();
}

// Money is asked for while somebody looks at it.
const silent = () => null; // without the broker there is none to tell; the verdict says so already
const readMoney = reader(() => Promise.all(["positions", "account", "pnl"].map((path) => optional(path).catch(silent))));

async function refreshMoney() {
  const by = stream;
  if (!["today", "positions"].includes(screen) || !by) return;
  const answer = await readMoney();
  if (!answer || by !== stream) return;
  const [positions, account, pnl] = answer;
  Object.assign(known, { positions: positions?.positions ?? null, unlisted: unlisted(positions), account, pnl });
  if (screen === "positions") await loadPositions();
  if (by === stream) draw();
  if (screen !== "today") return;
  await loadToday();
  if (by === stream) draw();
}

let waiting = 0;
function refreshSoon() {
  clearTimeout(waiting);
  waiting = setTimeout(() => { refresh().catch(tell); refreshMoney().catch(tell); }, 150);
}

function tell(problem) {
  if (problem instanceof Problem && problem.status === 401) { signOut("The key is not valid any more."); return; }
  if (problem instanceof Problem) toast(problem.sentence);
}

function hear(message) {
  if (message.type === "pong" && message.milliseconds) known.beats = [...known.beats, message.milliseconds].slice(-BEATS);
  if (message.type === "health") {
    known.health = message.data;
    readAll.overtake(); // an answer that was asked for before this is older
    noteState(message.data.state);
  }
  if (["health", "order", "execution", "resumed"].includes(message.type)) refreshSoon();
  if (message.type !== "quote") draw();
  freshness();
}

// --- signing in and out ----------------------------------------------------------------------
function watch(withKey) {
  stream?.close();
  stream = new Stream({
    key: withKey,
    message: hear,
    status: (status) => {
      link = status;
      if (status === "refused") call("GET", "page").catch(tell); // a bad key is told here, and signs out
      if (status === "open") { learn().catch(tell); refreshSoon(); }
      freshness();
    },
  });
}

// What this key may do here; a bridge that is away is asked again when it is back.
async function learn() {
  const own = await call("GET", "page");
  Object.assign(known, { scope: own.scope, trading: own.trading });
  fit();
  go();
}

function showStatus(withKey) {
  find("sign-in").hidden = true;
  find("status").hidden = false;
  find("sign-out").hidden = false;
  showUnanswered();
  watch(withKey);
  fit();
  go();
}

async function signIn(withKey) {
  key.use(withKey);
  known.health = await call("GET", "health");
  showStatus(withKey);
  refresh().catch(tell);
}

// Somebody who leaves leaves nothing behind; of whom is sent out, what is not answered yet is kept.
function signOut(reason = "", keep = reason !== "") {
  clearTimeout(waiting);
  stream?.close();
  stream = null;
  link = "none";
  key.forget();
  Object.assign(known, NOTHING);
  forgetExecutions();
  forgetInstrument();
  forgetOperate();
  forgetRules();
  forgetGreeks();
  forgetToday();
  for (const each of [readAll, readSession, readMoney, readFaults]) each.overtake();
  forgetTicket(keep);
  for (const id of ["session", "money", "tws", "cause", "heartbeat-facts"]) find(id).replaceChildren();
  draw();
  find("status").hidden = true;
  find("sign-out").hidden = true;
  find("mode").hidden = true;
  find("sign-in").hidden = false;
  find("sign-in-error").textContent = reason;
  freshness();
  find("key").focus();
}

// --- buttons ---------------------------------------------------------------------------------
// `done` is what to say of it, or tells it from the answer.
async function act(button, work, done, silence = "The bridge does not answer") {
  const focused = document.activeElement === button;
  button.disabled = true;
  try {
    const answer = await work();
    toast(typeof done === "function" ? done(answer) : done);
  } catch (problem) {
    toast(problem instanceof Problem ? problem.sentence : silence);
  } finally {
    button.disabled = false;
    if (focused && document.activeElement === document.body) button.focus(); // a disabled button loses it
    refreshSoon();
  }
}

async function toggleHalt() {
  const halted = isHalted(known.health);
  const answer = halted
    ? await confirmed("Resume trading?", "New orders will be accepted again.", "Resume trading")
    : await confirmed("Halt trading?", "No new order is accepted until you resume, also after a restart of the bridge.", "Halt trading", "Also cancel the open orders that open or enlarge a position");
  if (!answer.agreed) return;
  const work = halted
    ? () => call("DELETE", "trading/halt")
    : () => call("POST", "trading/halt", { body: { reason: "status page", keepOrders: !answer.checked } });
  if (halted) await act(find("halt"), work, "Trading resumed");
  else await act(find("halt"), work, haltWords, "The bridge does not answer: ./deploy.py halt needs no bridge");
}

// What the switch could not do is not passed over: a halt that a restart would forget, cancels that did not go out.
function haltWords(halt) {
  const trouble = halt.survivesRestart === false || halt.cancelled?.failed.length > 0;
  return trouble ? `Trading halted. ${halt.nextStep}` : "Trading halted";
}

// Faults also begin and end elsewhere: by time, by the control port, by another tab.
const readFaults = reader(() => optional("sandbox/faults"));

async function showFaults() {
  if (known.sandbox === false) return;
  let answer;
  try {
    answer = await readFaults();
  } catch (problem) {
    find("fault-state").textContent = "Unknown: the simulator does not answer.";
    return;
  }
  if (answer === undefined) return;
  known.sandbox = answer !== null;
  fit();
  if (answer) drawFaults(answer, press);
}

async function press(button, name, on) {
  const work = on ? () => call("DELETE", `sandbox/faults/${name}`) : () => call("POST", "sandbox/faults", { body: { fault: name } });
  await act(button, async () => drawFaults(await work(), press), on ? `Ended: ${plainly(name)}` : `Started: ${plainly(name)}`);
}

async function endFaults() {
  const answer = await call("DELETE", "sandbox/faults").catch(() => null);
  if (answer) drawFaults(answer, press);
}

find("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const withKey = find("key").value.trim();
  find("sign-in-error").textContent = "";
  try {
    await signIn(withKey);
    key.keep(find("remember").checked);
    find("key").value = "";
  } catch (problem) {
    find("sign-in-error").textContent = problem instanceof Problem && problem.status === 401 ? "That key is not valid." : problem.message;
  }
});
find("sign-out").addEventListener("click", () => signOut());
find("halt").addEventListener("click", toggleHalt);
find("reconnect").addEventListener("click", async (event) => {
  const button = event.currentTarget;
  const answer = await confirmed("Reconnect to the gateway?", "The TWS connection is dropped and made again. Open orders stay at the broker.", "Reconnect");
  if (answer.agreed) await act(button, () => call("POST", "connection/reconnect"), "Reconnecting");
});
find("recover").addEventListener("click", (event) => act(event.currentTarget, () => call("POST", "session/recover"), "Recovery has run"));
window.addEventListener("hashchange", go);
document.addEventListener("redraw", draw);
prepareRules(act, may);
prepareOrders(act, (scope) => may(scope) && known.trading, () => may("admin"));
prepareTicket(refreshSoon, () => known.health?.tradingMode);
prepareExecutions();
prepareInstrument();
prepareOperate(act);
prepareTour(endFaults);

setInterval(freshness, 1000);
setInterval(() => { if (stream && link === "open") refresh().catch(tell); }, SLOW);
setInterval(() => { if (stream && link === "open" && !document.hidden) refreshMoney().catch(tell); }, MONEY);
const kept = key.kept();
if (kept) signIn(kept).catch((problem) => {
  if (problem instanceof Problem && problem.status === 401) signOut("The key is not valid any more.");
  else { key.use(kept); showStatus(kept); } // the bridge is away: the stream finds it again
});
else signOut("", true);
find("loading").remove();
window.dispatchEvent(new Event("gangway-started"));
