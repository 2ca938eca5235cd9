// Starts the page: sign in, one stream, and the few buttons that change something.

import { call, key, optional, Problem } from "./api.js";
import { confirmed, find, toast } from "./elements.js";
import { contract } from "./format.js";
import { drawFaults, noteState, plainly } from "./faults.js";
import { OLD_AFTER, Stream } from "./stream.js";
import { isHalted, showFreshness, showHeartbeat, showHealth, showPortal, showTimeline, showTrading } from "./view.js";

const SLOW = 15_000;
const BEATS = 60;
const NOTHING = { health: null, events: [], session: null, halt: null, orders: [], executions: [], beats: [], sandbox: undefined };
const known = { ...NOTHING };
let stream = null;
let link = "none";

const draw = () => {
  const now = Date.now();
  if (known.health) showHealth(known.health, now);
  showPortal(known.session, now);
  showTimeline(known.events, known.health, now);
  showHeartbeat(known.beats);
  showTrading(known.halt, known.orders, known.executions, known.health, settle);
};

const freshness = () => showFreshness(stream?.heard, link, Date.now(), OLD_AFTER);

let turn = 0;
let shown = 0;
async function refresh() {
  const [asked, by] = [++turn, stream];
  const today = new Date();
  today.setHours(0, 0, 0, 0);
  const [health, events, session, halt, orders, executions] = await Promise.all([
    call("GET", "health"), optional("connection/events"), optional("session"), optional("trading/halt"),
    optional("orders"), optional(`executions?since=${encodeURIComponent(today.toISOString())}`),
  ]);
  if (asked < shown || by !== stream) return; // overtaken by a newer answer, or signed out meanwhile
  shown = asked;
  const list = (answer, name) => (Array.isArray(answer) ? answer : answer?.[name] ?? []);
  Object.assign(known, { health, session, halt, events: list(events, "events"), executions: list(executions, "executions") });
  known.orders = list(orders, "orders").filter((order) => order.state !== "terminal");
  draw();
  await showFaults();
}

let waiting = 0;
function refreshSoon() {
  clearTimeout(waiting);
  waiting = setTimeout(() => refresh().catch(tell), 150);
}

function tell(problem) {
  if (problem instanceof Problem && problem.status === 401) { signOut("The key is not valid any more."); return; }
  if (problem instanceof Problem) toast(problem.sentence);
}

function hear(message) {
  if (message.type === "pong" && message.milliseconds) known.beats = [...known.beats, message.milliseconds].slice(-BEATS);
  if (message.type === "health") {
    known.health = message.data;
    shown = ++turn; // an answer that was asked for before this is older
    noteState(message.data.state);
  }
  if (["health", "order", "execution", "resumed"].includes(message.type)) refreshSoon();
  if (message.type !== "quote") draw();
  freshness();
}

function watch(withKey) {
  stream?.close();
  stream = new Stream({
    key: withKey,
    message: hear,
    status: (status) => {
      link = status;
      if (status === "refused") signOut("The key was refused.");
      if (status === "open") refreshSoon();
      freshness();
    },
  });
}

function showStatus(withKey) {
  find("sign-in").hidden = true;
  find("status").hidden = false;
  find("sign-out").hidden = false;
  watch(withKey);
}

async function signIn(withKey) {
  key.use(withKey);
  known.health = await call("GET", "health");
  showStatus(withKey);
  refresh().catch(tell);
}

function signOut(reason = "") {
  clearTimeout(waiting);
  stream?.close();
  stream = null;
  link = "none";
  key.forget();
  Object.assign(known, NOTHING);
  draw();
  find("status").hidden = true;
  find("sign-out").hidden = true;
  find("mode").hidden = true;
  find("sign-in").hidden = false;
  find("sign-in-error").textContent = reason;
  freshness();
  find("key").focus();
}

async function act(button, work, done) {
  const focused = document.activeElement === button;
  button.disabled = true;
  try {
    await work();
    toast(done);
  } catch (problem) {
    toast(problem instanceof Problem ? problem.sentence : "The bridge does not answer");
  } finally {
    button.disabled = false;
    if (focused && document.activeElement === document.body) button.focus(); // a disabled button loses it
    refreshSoon();
  }
}

async function settle(order, button) {
  const dialog = find("settle");
  find("settle-text").textContent = `${order.action} ${order.quantity} ${contract(order)} ${order.orderType} ${order.limitPrice ?? ""}`.trim();
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  if (dialog.returnValue !== "yes") return;
  const body = { status: find("settle-status").value, note: "status page" };
  await act(button, () => call("POST", `order/${encodeURIComponent(order.orderId)}/settle`, { body }), "Settled");
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
  await act(find("halt"), work, halted ? "Trading resumed" : "Trading halted");
}

// Faults also begin and end elsewhere: by time, by the control port, by another tab.
async function showFaults() {
  if (known.sandbox === false) return;
  let answer;
  try {
    answer = await optional("sandbox/faults");
  } catch (problem) {
    find("fault-state").textContent = "Unknown: the simulator does not answer.";
    return;
  }
  known.sandbox = answer !== null;
  find("sandbox").hidden = !answer;
  if (answer) drawFaults(answer, press);
}

async function press(button, name, on) {
  const work = on ? () => call("DELETE", `sandbox/faults/${name}`) : () => call("POST", "sandbox/faults", { body: { fault: name } });
  await act(button, async () => drawFaults(await work(), press), on ? `Ended: ${plainly(name)}` : `Started: ${plainly(name)}`);
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

setInterval(freshness, 1000);
setInterval(() => { if (stream && link === "open") refresh().catch(tell); }, SLOW);
const kept = key.kept();
if (kept) signIn(kept).catch((problem) => {
  if (problem instanceof Problem && problem.status === 401) signOut("The key is not valid any more.");
  else showStatus(kept); // the bridge is away: the stream finds it again
});
else signOut();
