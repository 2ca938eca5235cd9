// The chart of an instrument with its executions on it, and its quote.

import { call, pages, permitted, Problem } from "./api.js";
import { priceChart } from "./charts.js";
import { facts, find } from "./elements.js";
import { clock, number, words } from "./format.js";

const BARS = { "1 D": "5 mins", "1 W": "1 hour", "1 M": "1 day", "1 Y": "1 day" };

const value = (each) => (each && typeof each.value === "number" ? `${number(each.value)}${each.tag === "live" ? "" : ` (${words(each.tag)})`}` : "none");

let turn = 0; // an answer to what was asked before is not shown under another name

async function show(form) {
  const own = ++turn;
  const symbol = form.symbol.value.trim().toUpperCase();
  const span = form.span.value;
  find("chart-part").textContent = "Asking the broker…";
  try {
    const parts = new URLSearchParams({ symbol, duration: span, barSize: BARS[span] });
    const history = await call("GET", `history?${parts}`);
    const first = history.bars[0]?.time ?? new Date().toISOString();
    const fills = await permitted(pages(`executions?${new URLSearchParams({ symbol, since: first, limit: 2000 })}`, "executions"));
    if (own !== turn) return;
    find("chart-part").textContent = "";
    priceChart(find("chart"), symbol, history.bars, (fills?.rows ?? []).filter((each) => each.conId === history.conId), find("chart-part"));
    facts(find("quote"), []);
    const quote = await call("GET", `quote/${encodeURIComponent(symbol)}`);
    if (own !== turn) return;
    facts(find("quote"), [["Quote of", `${quote.symbol}, ${clock(Date.now())}`], ["Bid", value(quote.bid)], ["Ask", value(quote.ask)], ["Last", value(quote.last)], ["Yesterday's close", value(quote.close)], ["Data", words(quote.marketData)]]);
  } catch (problem) {
    if (own !== turn) return;
    find("chart").replaceChildren();
    facts(find("quote"), []);
    find("chart-part").textContent = problem instanceof Problem ? problem.sentence : "The bridge does not answer.";
  }
}

export function forgetInstrument() {
  turn += 1;
  find("chart").replaceChildren();
  facts(find("quote"), []);
  find("chart-part").textContent = "";
}

export function prepareInstrument() {
  find("instrument-form").addEventListener("submit", (event) => { event.preventDefault(); show(event.currentTarget); });
}
