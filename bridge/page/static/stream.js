// The one live connection. It says what it hears, and how old that is; nothing else decides what is fresh.

const RETRY = [500, 1000, 2000, 4000, 8000];
const PING = 5000;
export const OLD_AFTER = 12_000;

export class Stream {
  constructor({ key, message, status }) {
    this.key = key;
    this.message = message;
    this.status = status;
    this.heard = 0;
    this.opened = 0;
    this.attempt = 0;
    this.expected = 0;
    this.session = null;
    this.sequence = 0;
    this.closed = false;
    this.timer = setInterval(() => this.beat(), PING);
    this.open();
  }

  open() {
    const address = new URL("stream", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    address.search = "";
    this.socket = new WebSocket(address);
    this.socket.addEventListener("open", () => { this.opened = Date.now(); this.send({ op: "auth", key: this.key }); });
    this.socket.addEventListener("message", (event) => this.hear(JSON.parse(event.data)));
    this.socket.addEventListener("close", (event) => this.lost(event));
  }

  send(operation) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(operation));
  }

  hear(message) {
    this.heard = Date.now();
    if (message.type === "welcome") {
      this.attempt = 0;
      for (const channel of ["health", "orders", "executions"]) this.send({ op: "subscribe", channel });
      this.status("open");
      this.beat();
    }
    if (message.type === "pong" && this.pinged) {
      message.milliseconds = performance.now() - this.pinged;
      this.pinged = 0;
    }
    this.message(message);
  }

  beat() {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    // A socket that swallows pings without an answer is dead, whatever the browser thinks.
    if (Date.now() - Math.max(this.heard, this.opened) > OLD_AFTER) { this.socket.close(); return; }
    this.pinged = performance.now();
    this.send({ op: "ping" });
  }

  // "refused" may be said of a key that came too late, too: whether the key is good is asked elsewhere.
  lost(event) {
    if (this.closed) return;
    this.status(event.code === 4401 ? "refused" : "lost");
    if (this.closed) return;
    const wait = RETRY[Math.min(this.attempt, RETRY.length - 1)] * (0.75 + Math.random() / 2);
    this.attempt += 1;
    this.expected = Date.now() + wait;
    setTimeout(() => { if (!this.closed) this.open(); }, wait);
  }

  close() {
    this.closed = true;
    clearInterval(this.timer);
    this.socket.close();
  }
}
