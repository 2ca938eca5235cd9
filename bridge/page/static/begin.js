// Before the modules, and none itself: one module that does not arrive stops all of them, and nobody would be told.

const LOADS = "gangway-loads";
const MOST = 3; // of the page's own accord; then it is left to its reader
const PAUSE = 2000;
const PATIENCE = 20_000;
let again = null;

function loadAgain() {
  const times = Number(sessionStorage.getItem(LOADS) ?? 0);
  if (again || times >= MOST) return;
  sessionStorage.setItem(LOADS, times + 1);
  again = setTimeout(() => location.reload(), PAUSE * 2 ** times);
}

const waiting = setTimeout(loadAgain, PATIENCE);
window.addEventListener("error", (event) => { if (event.target?.tagName === "SCRIPT") loadAgain(); }, true);
window.addEventListener("gangway-started", () => {
  clearTimeout(waiting);
  clearTimeout(again);
  sessionStorage.removeItem(LOADS);
});
