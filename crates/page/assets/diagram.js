// The sequence diagram of one call: a list of which each entry is an arrow.

const ROWS = 400;

/** What an event says, in a line: who says it, the words, and whether it is bad news. */
export function line(event) {
  const from = event.from;
  switch (event.type) {
    case "headers":
      return from === "client"
        ? { from, text: `HEADERS ${event.path}` }
        : { from, text: `HEADERS${event.http_status === 200 ? "" : `  HTTP ${event.http_status}`}`, wrong: event.http_status !== 200 };
    case "message":
      return { from, text: `message ${event.number}  ${shown(event)}` };
    case "half_close":
      return { from, text: "half-close" };
    case "trailers":
      return { from: "server", text: `trailers  ${event.code}${event.message ? `  ${event.message}` : ""}`, wrong: event.code !== "OK" };
    case "cancel":
      return { from: "client", text: "cancel", wrong: true };
    case "reset":
      return { from, text: `RST_STREAM  ${event.code}`, wrong: true };
    case "broken":
      return { from: "server", text: `broken: ${event.reason}`, wrong: true };
    case "skipped":
      return { text: `⋮ ${event.count.toLocaleString()} messages ⋮` };
    case "sent":
      return { from, text: event.what === "frame" ? event.text : `${event.what} ${event.text}` };
    case "note":
      return { text: event.text };
    default:
      return null;
  }
}

function shown(event) {
  return event.value === undefined || event.value === null ? `${event.bytes} bytes` : JSON.stringify(event.value);
}

export class Diagram {
  constructor(list, earlier) {
    Object.assign(this, { list, earlier, begun: 0, hidden: 0 });
  }

  /** Begins anew with what is there of a call. */
  show(call) {
    this.list.replaceChildren();
    this.begun = call.begun;
    this.hidden = call.dropped;
    this.add(call.events);
  }

  /** Adds what has come; what is long ago leaves the page. */
  add(events) {
    const lines = events.map((event) => [event, line(event)]).filter(([, line]) => line);
    const fresh = lines.slice(-ROWS);
    this.hidden += lines.length - fresh.length;
    this.list.append(...fresh.map(([event, line]) => this.row(event, line)));
    while (this.list.childElementCount > ROWS) {
      this.list.firstElementChild.remove();
      this.hidden += 1;
    }
    this.earlier.hidden = this.hidden === 0;
    this.earlier.textContent = `${this.hidden.toLocaleString()} earlier events are not shown`;
  }

  row(event, { from, text, wrong }) {
    const row = document.createElement("li");
    row.className = `${from ?? "alone"}${wrong ? " wrong" : ""}`;
    const time = document.createElement("time");
    time.textContent = `${(event.at_ms - this.begun).toFixed(1)} ms`;
    const arrow = document.createElement("span");
    arrow.className = "arrow";
    // Never as HTML: a peer has chosen the words.
    arrow.textContent = text;
    row.append(time, arrow);
    if (event.metadata) row.title = Object.entries(event.metadata).map(([name, value]) => `${name}: ${value}`).join("\n");
    if (from) row.setAttribute("aria-label", `${time.textContent}, from the ${from}: ${text}`);
    return row;
  }
}
