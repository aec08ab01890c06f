// Two charts of a call: the pauses between messages, and what its windows have left.

const WIDTH = 600;
const HEIGHT = 120;
const SVG = "http://www.w3.org/2000/svg";

/** Milliseconds between one message of a side and the next. */
export function gaps(events, from) {
  const times = events.filter((event) => event.type === "message" && event.from === from).map((event) => event.at_ms);
  return times.slice(1).map((at, n) => [at, at - times[n]]);
}

/** Bytes that a side may still send on the call. */
export function windows(events, from) {
  return events.filter((event) => event.type === "window" && event.from === from).map((event) => [event.at_ms, event.left]);
}

export function draw(figure, events, of, words) {
  const sides = { client: of(events, "client"), server: of(events, "server") };
  const all = [...sides.client, ...sides.server];
  figure.hidden = all.length < 2;
  if (figure.hidden) return;
  const [begin, end] = [Math.min(...all.map(([at]) => at)), Math.max(...all.map(([at]) => at))];
  const most = Math.max(...all.map(([, value]) => value), 1e-9);
  const point = ([at, value]) =>
    `${(((at - begin) / Math.max(end - begin, 1e-9)) * WIDTH).toFixed(1)},${(HEIGHT - 2 - (Math.max(value, 0) / most) * (HEIGHT - 4)).toFixed(1)}`;
  const lines = Object.entries(sides).map(([from, points]) => {
    const line = document.createElementNS(SVG, "polyline");
    line.setAttribute("class", `from-${from}`);
    line.setAttribute("points", points.map(point).join(" "));
    return line;
  });
  figure.querySelector("svg").replaceChildren(...lines);
  figure.querySelector("figcaption").textContent = words(most);
}
