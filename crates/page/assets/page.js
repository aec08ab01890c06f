// The page: takes events, and draws at most once a frame.

import { Calls } from "./calls.js";
import { draw, gaps, windows } from "./chart.js";
import * as corner from "./corner.js";
import { Diagram } from "./diagram.js";

const ROWS = 200;
const CHART_EVERY_MS = 250;

const [state, filter, pause, clear, table, none, title, gapsFigure, windowsFigure, note] =
  ["state", "filter", "pause", "clear", "calls", "none", "call-title", "gaps", "windows", "note"]
    .map((id) => document.getElementById(id));
const diagram = new Diagram(document.getElementById("diagram"), document.getElementById("earlier"));
const detail = diagram.list.parentElement;
const calls = new Calls();
const rows = new Map();
let waiting = [];
let chosen = null;
let frame = 0;
let charted = 0;
/** A call that is to be chosen when it is there. */
let wanted = null;
let seesWindows = true;

fetch("about").then((response) => response.json()).then(({ calls: canCall }) => {
  seesWindows = canCall;
  if (!canCall) return;
  corner.begin((number) => {
    wanted = number;
    soon();
  });
});

const source = new EventSource("events");
source.onopen = () => say("live");
source.onerror = () => say("no connection to the server; trying again");
source.onmessage = ({ data }) => {
  waiting.push(...JSON.parse(data));
  // Paused, what comes is kept as far as a running page keeps it.
  if (waiting.length > 50_000) waiting.splice(0, 25_000);
  if (paused()) say(`paused, ${waiting.length.toLocaleString()} events wait`);
  else soon();
};

function paused() {
  return pause.getAttribute("aria-pressed") === "true";
}

function say(text) {
  if (state.textContent !== text) state.textContent = text;
}

function soon() {
  frame ||= requestAnimationFrame(update);
}

function update() {
  frame = 0;
  const events = waiting;
  waiting = [];
  const news = [];
  for (const event of events) {
    // What belongs to no call.
    if (event.call === 0) {
      note.textContent = event.text;
      note.hidden = false;
      continue;
    }
    const call = calls.take(event);
    if (call.number === chosen) news.push(event);
    if (call.ended !== null) corner.ended(call.number);
  }
  list();
  if (calls.byNumber.has(wanted)) {
    choose(wanted, false);
    if (calls.byNumber.get(wanted).ended !== null) corner.ended(wanted);
    wanted = null;
    return;
  }
  const call = calls.byNumber.get(chosen);
  if (call && news.length) {
    // Who has scrolled up wants to read.
    const follows = detail.scrollTop + detail.clientHeight >= detail.scrollHeight - 40;
    diagram.add(news);
    if (follows) detail.scrollTop = detail.scrollHeight;
    heading(call);
    chart(call);
  }
}

function chart(call) {
  const now = performance.now();
  if (now - charted < CHART_EVERY_MS && call.ended === null) return;
  charted = now;
  draw(gapsFigure, call.events, gaps, (most) => `Time between messages, up to ${most.toFixed(1)} ms. Solid: from the client. Dashed: from the server.${seesWindows ? "" : " A server sees no windows of HTTP/2; fourmodes watch --page shows them."}`);
  draw(windowsFigure, call.events, windows, (most) => `Flow control window left, up to ${most.toLocaleString()} bytes. Solid: the client may send. Dashed: the server may send.`);
}

function heading(call) {
  title.textContent = `${call.method || "a call"}  ${call.mode}  ${call.status}`;
}

/** The table: rows are made once, and moved and changed after that. */
function list() {
  const shown = calls.matching(filter.value).slice(0, ROWS);
  none.hidden = shown.length > 0;
  none.textContent = calls.byNumber.size ? "No call matches the filter." : "No calls yet.";
  const keep = new Set(shown.map((call) => call.number));
  for (const [number, row] of rows) {
    if (!keep.has(number)) {
      row.remove();
      rows.delete(number);
    }
  }
  shown.forEach((call, n) => {
    const row = rows.get(call.number) ?? newRow(call.number);
    const took = call.ended === null ? "" : `${(call.ended - call.begun).toFixed(1)} ms`;
    const [service, method] = split(call.method);
    const parts = [...row.cells[0].children, ...[...row.cells].slice(1)];
    [method, [service, call.mode].filter(Boolean).join(", "), call.status, took, call.sent, call.received].forEach((text, n) => {
      if (parts[n].textContent !== String(text)) parts[n].textContent = text;
    });
    row.cells[1].classList.toggle("wrong", call.failed);
    row.setAttribute("aria-selected", String(call.number === chosen));
    row.tabIndex = call.number === chosen || (chosen === null && n === 0) ? 0 : -1;
    if (table.rows[n] !== row) table.insertBefore(row, table.rows[n] ?? null);
  });
}

/** `package.Service` and `Method`. */
function split(path) {
  const at = path.lastIndexOf("/");
  return [path.slice(0, Math.max(at, 0)), path.slice(at + 1)];
}

function newRow(number) {
  const row = document.createElement("tr");
  row.append(...Array.from({ length: 5 }, (_, column) => {
    const cell = document.createElement("td");
    if (column > 1) cell.className = "number";
    return cell;
  }));
  row.cells[0].append(document.createElement("span"), document.createElement("small"));
  row.addEventListener("click", () => choose(number));
  rows.set(number, row);
  return row;
}

function choose(number, focuses = true) {
  const call = calls.byNumber.get(number);
  if (!call) return;
  chosen = number;
  diagram.show(call);
  heading(call);
  charted = 0;
  chart(call);
  list();
  if (focuses) rows.get(number)?.focus({ preventScroll: false });
}

function move(by) {
  const order = [...table.rows];
  const at = order.findIndex((row) => row.getAttribute("aria-selected") === "true");
  const row = order[at < 0 ? 0 : Math.min(Math.max(at + by, 0), order.length - 1)];
  const found = [...rows].find(([, candidate]) => candidate === row);
  if (found) choose(found[0]);
}

pause.addEventListener("click", () => {
  const now = !paused();
  pause.setAttribute("aria-pressed", String(now));
  say(now ? "paused" : "live");
  if (!now) soon();
});
clear.addEventListener("click", () => {
  calls.clear();
  chosen = null;
  title.textContent = "No call selected";
  diagram.show({ begun: 0, dropped: 0, events: [] });
  gapsFigure.hidden = windowsFigure.hidden = true;
  list();
});
filter.addEventListener("input", list);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    filter.value = "";
    filter.blur();
    list();
  } else if (event.target.matches("input, textarea")) {
    return;
  } else if (event.key === "/") {
    filter.focus();
    event.preventDefault();
  } else if (event.key === "p") {
    pause.click();
  } else if (event.key === "ArrowDown" || event.key === "j") {
    move(1);
    event.preventDefault();
  } else if (event.key === "ArrowUp" || event.key === "k") {
    move(-1);
    event.preventDefault();
  }
});
