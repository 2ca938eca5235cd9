// For the owner: keys, connection settings, alerts, the audit.

import { call, optional, reader } from "./api.js";
import { button, confirmed, element, facts, find, table } from "./elements.js";
import { moment, words, yes } from "./format.js";

const seen = { keys: [], audit: [], settings: null };
let act = null;

const read = reader(() => Promise.all([optional("keys"), optional("audit?limit=50"), optional("connection/settings")]));

export async function loadOperate() {
  const answer = await read();
  if (!answer) return;
  const [keys, audit, settings] = answer;
  Object.assign(seen, { keys: keys?.keys ?? [], audit: audit?.entries ?? [], settings });
}

export function forgetOperate() {
  read.overtake();
  Object.assign(seen, { keys: [], audit: [], settings: null });
  find("made-key").textContent = "";
  find("audit-told").textContent = "";
  find("alerts-told").textContent = "";
  find("probe").hidden = true;
  showOperate();
}

const bounds = (key) => Object.entries(key.bounds ?? {}).filter(([, value]) => value !== null && !(Array.isArray(value) && value.length === 0))
  .map(([name, value]) => `${name}: ${Array.isArray(value) ? value.join(", ") : value}`).join("; ") || "none";

const state = (key) => (key.active ? (key.expiresAt ? `until ${moment(key.expiresAt)}` : "valid") : key.revokedAt ? "revoked" : "ended");

const KEYS = [
  { name: "Name", read: (key) => key.label }, { name: "May", read: (key) => key.scope },
  { name: "Bounds", read: bounds }, { name: "Made", read: (key) => moment(key.createdAt) },
  { name: "State", read: state },
  {
    name: "Actions",
    make: (key) => button("Revoke", (pressed) => revoke(key(), pressed), { "aria-label": `Revoke ${key().label}` }),
    update: (node, key) => { node.hidden = !key.active; },
  },
];

const AUDIT = [
  { name: "When", read: (entry) => moment(entry.at) }, { name: "Key", read: (entry) => entry.apiKeyId },
  { name: "What", read: (entry) => words(entry.action.replaceAll(".", " ")) }, { name: "Of", read: (entry) => entry.target },
  { name: "Details", read: (entry) => Object.entries(entry.detail).map(([name, value]) => `${name} ${value !== null && typeof value === "object" ? JSON.stringify(value) : value}`).join(", ") },
  { name: "Result", read: (entry) => entry.result },
];

export function showOperate() {
  table(find("keys"), { columns: KEYS, rows: seen.keys, key: (key) => key.id, empty: "No keys but the admin key's file" });
  table(find("audit"), { columns: AUDIT, rows: seen.audit, key: (entry) => entry.sequence, empty: "Nothing is on record" });
  const settings = seen.settings;
  facts(find("settings"), settings ? [
    ["Profile", settings.profile], ["Gateway", `${settings.host}:${settings.port}`], ["Client id", String(settings.clientId)],
    ["Account", settings.account || "the only one"], ["Market data", words(settings.marketDataType)],
    ["Heartbeat", `every ${settings.heartbeatInterval} s`], ["Read only", yes(settings.readOnly)], ["Client Portal", settings.portalUrl || "off"],
  ] : []);
}

async function revoke(key, pressed) {
  const answer = await confirmed("Revoke this key?", `${key.label}: it ends at once, its streams too.`, "Revoke the key");
  if (answer.agreed) await act(pressed, () => call("DELETE", `keys/${encodeURIComponent(key.id)}`), "Revoked");
}

const list = (text) => text.split(/[\s,]+/).filter(Boolean);
const asNumber = (text) => (text.trim() === "" ? null : Number(text));

const LISTS = ["accounts", "symbols", "from"];
const NUMBERS = ["maxNotional", "maxOrdersPerDay"];

// A bound that cannot be read must not become none: the key would be good for anything.
function unread(form) {
  const empty = (name) => form[name].value.trim() !== "" && list(form[name].value).length === 0;
  const noNumber = (name) => form[name].value.trim() !== "" && !(Number(form[name].value) > 0);
  const name = LISTS.find(empty) ?? NUMBERS.find(noNumber);
  if (!name) return false;
  const field = form[name];
  field.setCustomValidity(NUMBERS.includes(name) ? "A number above 0, such as 1000 or 0.5; empty: no bound" : "Words, with commas between them; empty: no bound");
  field.addEventListener("input", () => field.setCustomValidity(""), { once: true });
  field.reportValidity();
  return true;
}

async function make(form) {
  if (unread(form)) return;
  const body = { label: form.label.value.trim(), scope: form.scope.value, bounds: {
    accounts: list(form.accounts.value), symbols: list(form.symbols.value.toUpperCase()), from: list(form.from.value),
    maxNotional: asNumber(form.maxNotional.value), maxOrdersPerDay: asNumber(form.maxOrdersPerDay.value),
  } };
  if (form.expires.value) body.expires = form.expires.value;
  await act(form.querySelector("button"), async () => {
    const made = await call("POST", "keys", { body });
    find("made-key").replaceChildren("The key, shown this once: ", element("code", { className: "secret" }, made.key));
    form.reset();
  }, "Made");
}

const PATIENCE = 90; // a gateway that does not answer, a service that does not take a message

async function testConnection(pressed) {
  await act(pressed, async () => {
    const report = await call("POST", "connection/test", { body: {}, seconds: PATIENCE });
    find("probe").hidden = false;
    table(find("probe"), {
      columns: [
        { name: "Step", read: (step) => words(step.name) }, { name: "Right", read: (step) => yes(step.ok), tone: (step) => (step.ok === false ? "lost" : "") },
        { name: "Details", read: (step) => [step.detail, step.nextStep].filter(Boolean).join(". ") },
      ],
      rows: report.steps, key: (step) => step.name, empty: "No step was tried",
    });
  }, "Tried");
}

async function testAlerts(pressed) {
  await act(pressed, async () => {
    const answer = await call("POST", "alerts/test", { seconds: PATIENCE });
    find("alerts-told").textContent = answer.services.map((each) => `${each.service}: ${each.sent ? "taken" : "not taken"}`).join("; ") || "The alert file has no address: nobody is told of anything.";
    return answer.services;
  }, (services) => (services.length > 0 && services.every((each) => each.sent) ? "Sent" : "Not everybody has it"));
}

async function verify(pressed) {
  await act(pressed, async () => {
    const { verification } = await call("GET", "audit?limit=1&verify=true");
    find("audit-told").textContent = verification.intact
      ? `The chain of ${verification.entries} entries is whole: no line was taken out or changed.`
      : `The chain is broken at entry ${verification.brokenAt}: a line was taken out or changed.`;
  }, "Checked");
}

export function prepareOperate(actor) {
  act = async (pressed, work, done) => {
    await actor(pressed, work, done);
    await loadOperate().catch(() => {});
    showOperate();
  };
  find("new-key").addEventListener("submit", (event) => { event.preventDefault(); make(event.currentTarget); });
  find("test-connection").addEventListener("click", (event) => testConnection(event.currentTarget));
  find("test-alerts").addEventListener("click", (event) => testAlerts(event.currentTarget));
  find("verify-audit").addEventListener("click", (event) => verify(event.currentTarget));
}

