// A proxy of Node's own `http2` module: what people write who have no other.
//
//     node proxy.mjs PORT SERVER [--no-trailers]
import http2 from "node:http2";

const [port, server, ...options] = process.argv.slice(2);
const { HTTP2_HEADER_STATUS, NGHTTP2_CANCEL, NGHTTP2_NO_ERROR } = http2.constants;
let upstream;
function connection() {
  if (!upstream || upstream.closed || upstream.destroyed) {
    upstream = http2.connect("http://127.0.0.1:" + server);
    upstream.on("error", () => {});
  }
  return upstream;
}

const proxy = http2.createServer();
proxy.on("session", (session) => session.on("error", () => {}));
proxy.on("stream", (down, headers) => {
  const { [http2.sensitiveHeaders]: _, ...rest } = headers;
  const up = connection().request(rest);
  let trailers = {};
  up.on("response", ({ [http2.sensitiveHeaders]: _, ...head }, flags) => {
    if (down.destroyed) return up.close(NGHTTP2_CANCEL);
    const endStream = Boolean(flags & 1);
    down.respond(head, { waitForTrailers: !endStream && !options.includes("--no-trailers"), endStream });
    if (!endStream) up.pipe(down);
  });
  up.on("trailers", ({ [http2.sensitiveHeaders]: _, ...entries }) => (trailers = entries));
  down.on("wantTrailers", () => down.sendTrailers(trailers));
  down.pipe(up);
  const failed = (from, to) => () => {
    if (!to.destroyed && from.rstCode !== NGHTTP2_NO_ERROR) to.close(from.rstCode);
  };
  down.on("close", failed(down, up)).on("error", () => {});
  up.on("close", failed(up, down)).on("error", () => {
    if (!down.headersSent && !down.destroyed) down.respond({ [HTTP2_HEADER_STATUS]: 502 }, { endStream: true });
  });
});
proxy.listen(Number(port), "127.0.0.1");
