// Shows the screen. The address brings a ticket behind `#`; it is traded once for what this tab
// needs, which the tab keeps over reloads and forgets when it is closed.
import RFB from "./novnc/core/rfb.js";

const KEPT = "gangway-screen";
const screen = document.getElementById("screen");
const status = document.getElementById("status");
const again = document.getElementById("again");

async function trade(ticket) {
  const headers = { Authorization: `Bearer ${ticket}` };
  const answer = await fetch("key", { headers, cache: "no-store" });
  if (answer.ok) {
    sessionStorage.setItem(KEPT, await answer.text());
  }
}

async function access() {
  const ticket = location.hash.slice(1);
  if (ticket) {
    history.replaceState(null, "", location.pathname);
    await trade(ticket);
  }
  return JSON.parse(sessionStorage.getItem(KEPT));
}

function show({ key, password, name }) {
  document.title = `${name}: gateway screen`;
  document.getElementById("title").textContent = document.title;
  const options = { wsProtocols: ["binary", key], credentials: { password } };
  const client = new RFB(screen, `ws://${location.host}/screen`, options);
  client.scaleViewport = true;
  client.addEventListener("connect", () => {
    status.textContent = "Connected. Ctrl-C in the terminal turns the screen off.";
    client.focus();
  });
  client.addEventListener("securityfailure", () => sessionStorage.removeItem(KEPT));
  client.addEventListener("disconnect", () => {
    status.textContent = "The screen is off, or the connection to it was lost.";
    again.hidden = false;
  });
}

async function start() {
  again.hidden = true;
  status.textContent = "Connecting";
  try {
    const found = await access();
    if (found) {
      show(found);
    } else {
      status.textContent =
        "This address was opened before, in another tab. ./deploy.py vnc --web gives a new one.";
    }
  } catch {
    status.textContent = "./deploy.py vnc --web no longer runs.";
  }
}

again.addEventListener("click", start);
addEventListener("hashchange", start);
start();
