// What is known of each call, from the events that arrive. Bounded like the server's own store.

export const CALLS = 1000;
export const EVENTS = 1000;

export class Calls {
  constructor() {
    this.byNumber = new Map();
  }

  /** Takes an event. Returns the call that it belongs to. */
  take(event) {
    let call = this.byNumber.get(event.call);
    if (!call) {
      call = {
        number: event.call, method: "", mode: "", status: "open", failed: false, begun: event.at_ms, ended: null,
        sent: 0, received: 0, events: [], dropped: 0,
      };
      this.byNumber.set(event.call, call);
      if (this.byNumber.size > CALLS) this.byNumber.delete(this.byNumber.keys().next().value);
    }
    apply(call, event);
    call.events.push(event);
    if (call.events.length > EVENTS) call.dropped += call.events.splice(0, EVENTS / 2).length;
    return call;
  }

  /** The latest first. */
  matching(text) {
    const wanted = text.trim().toLowerCase();
    const is = (call) => `${call.method} ${call.mode} ${call.status}`.toLowerCase().includes(wanted);
    return [...this.byNumber.values()].filter(is).reverse();
  }

  clear() {
    this.byNumber.clear();
  }
}

function apply(call, event) {
  switch (event.type) {
    case "headers":
      if (event.from === "client") {
        call.method = event.path.replace(/^\//, "");
        call.mode = event.mode ?? "";
        call.begun = event.at_ms;
      } else if (event.http_status !== 200) {
        end(call, event, `HTTP ${event.http_status}`, true);
      }
      break;
    case "message":
      if (event.from === "client") call.sent = event.number;
      else call.received = event.number;
      break;
    case "skipped":
      call.dropped += event.count;
      break;
    case "trailers":
      end(call, event, event.code, event.code !== "OK");
      break;
    case "cancel":
    case "reset":
      end(call, event, event.from === "client" ? "cancelled" : `reset ${event.code}`, true);
      break;
    case "broken":
      end(call, event, "broken", true);
      break;
  }
}

function end(call, event, status, failed) {
  if (call.ended !== null) return;
  Object.assign(call, { ended: event.at_ms, status, failed });
}
