// Shows the screen. The address brings a ticket behind `#`; it is traded once for what this tab
// needs, which the tab keeps over reloads and forgets when it is closed.
const KEPT = "gangway-screen";
const TRIES = "gangway-screen-tries";
const MOST_TRIES = 5;
const PAUSE = 500; // milliseconds
const screen = document.getElementById("screen");
const status = document.getElementById("status");
const again = document.getElementById("again");

async function trade(ticket, tries = 1) {
  const headers = { Authorization: `Bearer ${ticket}` };
  let answer;
  try {
    answer = await fetch("key", { headers, cache: "no-store" });
  } catch (error) {
    if (tries === MOST_TRIES) {
      throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
    return trade(ticket, tries + 1);
  }
  if (answer.ok) {
    sessionStorage.setItem(KEPT, await answer.text());
  }
  return undefined;
}

async function access() {
  const ticket = location.hash.slice(1);
  if (ticket) {
    history.replaceState(null, "", location.pathname);
    await trade(ticket);
  }
  return JSON.parse(sessionStorage.getItem(KEPT));
}

// A browser gives up what it is loading when an interface of this machine comes or goes (a VPN, a
// container), and keeps in mind which scripts failed: only a new page loads them again.
async function client() {
  try {
    const { default: RFB } = await import("./novnc/core/rfb.js");
    sessionStorage.removeItem(TRIES);
    return RFB;
  } catch (error) {
    const tries = Number(sessionStorage.getItem(TRIES)) + 1;
    if (tries > MOST_TRIES) {
      throw error;
    }
    sessionStorage.setItem(TRIES, tries);
    setTimeout(() => location.reload(), PAUSE);
    return null;
  }
}

function show(RFB, { key, password, name }) {
  document.title = `${name}: gateway screen`;
  document.getElementById("title").textContent = document.title;
  const options = { wsProtocols: ["binary", key], credentials: { password } };
  const shown = new RFB(screen, `ws://${location.host}/screen`, options);
  shown.scaleViewport = true;
  shown.addEventListener("connect", () => {
    status.textContent = "Connected. Ctrl-C in the terminal turns the screen off.";
    shown.focus();
  });
  shown.addEventListener("securityfailure", () => sessionStorage.removeItem(KEPT));
  shown.addEventListener("disconnect", () => {
    status.textContent = "The screen is off, or the connection to it was lost.";
    again.hidden = false;
  });
}

async function start() {
  again.hidden = true;
  status.textContent = "Connecting";
  try {
    const found = await access();
    if (!found) {
      status.textContent =
        "This address was opened before, in another tab. ./deploy.py vnc --web gives a new one.";
      return;
    }
    const RFB = await client();
    if (RFB) {
      show(RFB, found);
    }
  } catch {
    status.textContent = "./deploy.py vnc --web no longer runs.";
  }
}

again.addEventListener("click", start);
addEventListener("hashchange", start);
start();
