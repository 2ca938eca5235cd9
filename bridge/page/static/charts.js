// The pictures: how available the session was, how fast the gateway answers, and the price of an instrument.

import { shape } from "./elements.js";
import { moment, number, span, words } from "./format.js";

const DAY = 86_400_000;

const TONES = {
  ready: "up", halted: "up",
  "waiting-2fa": "person", "session-conflict": "person",
  "planned-restart": "planned",
  unknown: "unknown", stopped: "unknown",
};

export const tone = (state) => TONES[state] ?? "lost";

// Segments are {state, from, to, cause} in milliseconds, ascending; what no event covers is "unknown".
export function segments(events, now, length = DAY) {
  const start = now - length;
  const known = events.filter((event) => event.state && event.at <= now).sort((a, b) => a.at - b.at);
  const result = [];
  let part = { state: "unknown", from: start, cause: "" };
  for (const event of known) {
    const at = Math.max(event.at, start);
    if (event.state === part.state) continue;
    if (at > part.from) result.push({ ...part, to: at });
    part = { state: event.state, from: at, cause: event.cause ?? "" };
  }
  result.push({ ...part, to: now });
  return result;
}

const partWords = (part, now) => `${words(part.state)} for ${span((part.to - part.from) / 1000)}, ${moment(part.from, now)} to ${moment(part.to, now)}${part.cause ? `: ${part.cause}` : ""}`;

const lengthWords = (length) => (length === DAY ? "24 hours" : `${length / DAY} days`);

// One part after the other is told by the arrow keys, and each on hover.
function walkable(node, count, tell) {
  let at = count;
  node.tabIndex = 0;
  node.setAttribute("role", "group");
  node.onkeydown = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    at = Math.min(count - 1, Math.max(0, at + step));
    tell(at);
  };
}

export function timeline(node, parts, now, length, told) {
  const start = now - length;
  const x = (at) => ((at - start) / length) * 960;
  const key = JSON.stringify(parts.map((part) => [part.state, part.from, part.cause]));
  const bars = parts.map((part) => {
    const bar = shape("rect", { class: tone(part.state), x: x(part.from), y: 0, width: Math.max(1.5, x(part.to) - x(part.from)), height: 44 });
    bar.append(shape("title", {}, partWords(part, now)));
    return bar;
  });
  const marks = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const label = shape("text", { x: share * 960, y: 62, "text-anchor": share === 0 ? "start" : share === 1 ? "end" : "middle" });
    label.textContent = share === 1 ? "now" : `${span(((1 - share) * length) / 1000).replace(" 0 min", "")} ago`;
    return label;
  });
  const total = (kind) => parts.filter((part) => tone(part.state) === kind).reduce((sum, part) => sum + part.to - part.from, 0) / 1000;
  const sum = `In the last ${lengthWords(length)}: up ${span(total("up"))}, lost ${span(total("lost"))}, waiting for a person ${span(total("person"))}, no record ${span(total("unknown"))}.`;
  node.replaceChildren(shape("svg", { viewBox: "0 0 960 70", role: "img", "aria-label": sum }, ...bars, ...marks));
  if (node.dataset.parts === key) return; // where the reader was among the parts is kept
  node.dataset.parts = key;
  node.setAttribute("aria-label", "Parts of the availability: the left and right arrow keys tell each");
  walkable(node, parts.length, (index) => { told.textContent = partWords(parts[index], Date.now()); });
}

// Prices as a line with the range of each bar behind it; executions as marks, up for bought and down for sold.
export function priceChart(node, symbol, bars, fills, told) {
  if (!bars.length) { node.replaceChildren(); told.textContent = "The broker has no bars of this time."; return; }
  const low = Math.min(...bars.map((bar) => bar.low), ...fills.map((fill) => fill.price));
  const high = Math.max(...bars.map((bar) => bar.high), ...fills.map((fill) => fill.price));
  const x = (index) => 60 + (bars.length < 2 ? 445 : (index / (bars.length - 1)) * 890);
  const y = (price) => 250 - (high === low ? 0.5 : (price - low) / (high - low)) * 230;
  const times = bars.map((bar) => Date.parse(bar.time));
  const place = (when) => { const after = times.findIndex((time) => time > when); return after === -1 ? bars.length - 1 : Math.max(0, after - 1); };
  const ranges = bars.map((bar, index) => shape("line", { class: "range", x1: x(index), x2: x(index), y1: y(bar.low), y2: y(bar.high) }));
  const line = shape("polyline", { points: bars.map((bar, index) => `${x(index)},${y(bar.close)}`).join(" ") });
  const marks = fills.map((fill) => {
    const [left, top, up] = [x(place(Date.parse(fill.time))), y(fill.price), fill.side === "BUY"];
    const mark = shape("path", { class: up ? "bought" : "sold", d: `M${left} ${top} l-7 ${up ? 12 : -12} h14 z` });
    mark.append(shape("title", {}, fillWords(fill)));
    return mark;
  });
  const labels = [[high, 24], [low, 254]].map(([price, top]) => { const text = shape("text", { x: 0, y: top }); text.textContent = number(price); return text; });
  const ends = [[0, "start"], [bars.length - 1, "end"]].map(([index, anchor]) => { const text = shape("text", { x: x(index), y: 274, "text-anchor": anchor }); text.textContent = when(bars[index]); return text; });
  const sum = `${symbol}: ${bars.length} bars, from ${number(bars[0].close)} to ${number(bars.at(-1).close)}, lowest ${number(low)}, highest ${number(high)}, ${fills.length} executions.`;
  node.replaceChildren(shape("svg", { viewBox: "0 0 960 280", role: "img", class: "price", "aria-label": sum }, ...ranges, line, ...marks, ...labels, ...ends));
  node.setAttribute("aria-label", "Bars and executions: the left and right arrow keys tell each");
  const points = bars.map((bar) => `${when(bar)}: open ${number(bar.open)}, high ${number(bar.high)}, low ${number(bar.low)}, close ${number(bar.close)}`);
  for (const fill of fills) points[place(Date.parse(fill.time))] += `; ${fillWords(fill)}`;
  walkable(node, points.length, (index) => { told.textContent = points[index]; });
}

// A day is the exchange's, whatever day it was where the reader is at its midnight.
const when = (bar) => (bar.date ? bar.date.replace(/^(....)(..)(..)$/, "$1-$2-$3") : moment(bar.time));

const fillWords = (fill) => `${fill.side === "BUY" ? "bought" : "sold"} ${number(fill.quantity)} at ${number(fill.price)}, ${moment(fill.time)}`;

export function sparkline(node, values) {
  const height = 48;
  const top = Math.max(10, ...values);
  const x = (index) => (values.length < 2 ? 240 : (index / (values.length - 1)) * 470 + 5);
  const y = (value) => height - (value / top) * (height - 8) - 2;
  const line = shape("polyline", { points: values.map((value, index) => `${x(index)},${y(value)}`).join(" ") });
  const last = values.at(-1);
  const told = values.length ? `Heartbeat answers, newest ${last.toFixed(1)} ms, slowest ${Math.max(...values).toFixed(1)} ms of ${values.length}.` : "No heartbeat yet.";
  const children = values.length ? [line, shape("circle", { cx: x(values.length - 1), cy: y(last), r: 4 })] : [];
  const label = shape("text", { x: 0, y: 62 });
  label.textContent = values.length ? `slowest ${top === 10 ? Math.max(...values).toFixed(1) : top.toFixed(1)} ms` : "no heartbeat yet";
  node.replaceChildren(shape("svg", { viewBox: "0 0 480 66", role: "img", "aria-label": told }, ...children, label));
}
