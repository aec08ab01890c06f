// The interop cases of gRPC with @grpc/grpc-js, whose own programs for them are on no registry.
//
//   node.mjs client ADDRESS [CA NAME]     every case, a line each
//   node.mjs server PORT [CERT KEY]

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [what, where, ...tls] = process.argv.slice(2);
const protos = new URL("./protos", import.meta.url).pathname;
const loaded = loader.loadSync("grpc/testing/test.proto", { includeDirs: [protos], keepCase: true, defaults: true });
const { TestService, UnimplementedService } = grpc.loadPackageDefinition(loaded).grpc.testing;
const ECHO = "x-grpc-test-echo-initial";
const ECHO_TRAILING = "x-grpc-test-echo-trailing-bin";
const payload = (size) => ({ body: Buffer.alloc(size) });
const files = tls.map((name, at) => (what === "client" && at === 1 ? name : readFileSync(name)));

function serve() {
  const echoed = (call) => {
    const trailers = new grpc.Metadata();
    const [first] = call.metadata.get(ECHO);
    if (first !== undefined) {
      const head = new grpc.Metadata();
      head.set(ECHO, first);
      call.sendMetadata(head);
    }
    call.metadata.get(ECHO_TRAILING).forEach((value) => trailers.add(ECHO_TRAILING, value));
    return trailers;
  };
  const status = ({ response_status: it }) =>
    it?.code ? { code: it.code, details: it.message } : null;
  const unary = (call, done) => {
    const trailers = echoed(call);
    const failed = status(call.request);
    failed ? done(failed) : done(null, { payload: payload(call.request.response_size) }, trailers);
  };
  const sends = async (call, request) => {
    const failed = status(request);
    if (failed) return call.emit("error", failed);
    for (const { size, interval_us } of request.response_parameters) {
      if (interval_us) await new Promise((done) => setTimeout(done, interval_us / 1000));
      if (!call.cancelled) call.write({ payload: payload(size) });
    }
  };
  const server = new grpc.Server({ "grpc.max_receive_message_length": -1 });
  server.addService(TestService.service, {
    EmptyCall: (call, done) => done(null, {}, echoed(call)),
    UnaryCall: unary,
    CacheableUnaryCall: unary,
    StreamingOutputCall: async (call) => {
      const trailers = echoed(call);
      await sends(call, call.request);
      call.end(trailers);
    },
    StreamingInputCall: (call, done) => {
      const trailers = echoed(call);
      let sum = 0;
      call.on("data", ({ payload }) => (sum += payload?.body.length ?? 0));
      call.on("end", () => done(null, { aggregated_payload_size: sum }, trailers));
    },
    FullDuplexCall: (call) => {
      const trailers = echoed(call);
      let last = Promise.resolve();
      call.on("data", (request) => (last = last.then(() => sends(call, request))));
      call.on("end", () => last.then(() => call.end(trailers)));
    },
  });
  const credentials = files.length
    ? grpc.ServerCredentials.createSsl(null, [{ cert_chain: files[0], private_key: files[1] }])
    : grpc.ServerCredentials.createInsecure();
  server.bindAsync(`127.0.0.1:${where}`, credentials, (error) => assert.ifError(error));
}

const options = files[1] ? { "grpc.ssl_target_name_override": files[1], "grpc.default_authority": files[1] } : {};
const credentials = files.length ? grpc.credentials.createSsl(files[0]) : grpc.credentials.createInsecure();
const client = new TestService(where, credentials, options);
const unary = (method, request, metadata = new grpc.Metadata()) =>
  new Promise((done) => {
    const seen = {};
    const call = client[method](request, metadata, (error, response) => Object.assign(seen, { error, response }));
    call.on("metadata", (head) => (seen.head = head));
    call.on("status", (end) => done(Object.assign(seen, { end })));
  });
const ended = (call) =>
  new Promise((done) => {
    const seen = { messages: [] };
    call.on("data", (message) => seen.messages.push(message));
    call.on("metadata", (head) => (seen.head = head));
    call.on("error", () => {});
    call.on("status", (end) => done(Object.assign(seen, { end })));
  });
const sizes = [31415, 9, 2653, 58979];
const parameters = (size, interval_us = 0) => ({ response_parameters: [{ size, interval_us }] });
const lengths = (seen) => seen.messages.map((message) => message.payload.body.length);
const SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
const is = (end, code, details) => {
  assert.equal(end.code, grpc.status[code]);
  if (details !== undefined) assert.equal(end.details, details);
};

const CASES = {
  async empty_unary() {
    is((await unary("EmptyCall", {})).end, "OK");
  },
  async large_unary() {
    const { response, end } = await unary("UnaryCall", { response_size: 314159, payload: payload(271828) });
    is(end, "OK");
    assert.equal(response.payload.body.length, 314159);
  },
  async client_streaming() {
    const answer = new Promise((done, failed) => {
      const call = client.StreamingInputCall((error, response) => (error ? failed(error) : done(response)));
      for (const size of [27182, 8, 1828, 45904]) call.write({ payload: payload(size) });
      call.end();
    });
    assert.equal((await answer).aggregated_payload_size, 74922);
  },
  async server_streaming() {
    const request = { response_parameters: sizes.map((size) => ({ size })) };
    const seen = await ended(client.StreamingOutputCall(request));
    is(seen.end, "OK");
    assert.deepEqual(lengths(seen), sizes);
  },
  async ping_pong() {
    const call = client.FullDuplexCall();
    const rest = [...sizes];
    call.write(parameters(rest.shift()));
    call.on("data", () => (rest.length ? call.write(parameters(rest.shift())) : call.end()));
    const seen = await ended(call);
    is(seen.end, "OK");
    assert.deepEqual(lengths(seen), sizes);
  },
  async empty_stream() {
    const call = client.FullDuplexCall();
    call.end();
    const seen = await ended(call);
    is(seen.end, "OK");
    assert.equal(seen.messages.length, 0);
  },
  async custom_metadata() {
    const sent = new grpc.Metadata();
    sent.set(ECHO, "test");
    sent.set(ECHO_TRAILING, Buffer.from("ababab", "hex"));
    const call = client.FullDuplexCall(sent);
    call.end(parameters(9));
    const both = [ended(call), unary("UnaryCall", { response_size: 9 }, sent)];
    for (const { head, end } of await Promise.all(both)) {
      is(end, "OK");
      assert.deepEqual(head.get(ECHO), ["test"]);
      assert.deepEqual(end.metadata.get(ECHO_TRAILING), [Buffer.from("ababab", "hex")]);
    }
  },
  async status_code_and_message() {
    const request = { response_status: { code: 2, message: "test status message" } };
    is((await unary("UnaryCall", request)).end, "UNKNOWN", "test status message");
    const call = client.FullDuplexCall();
    call.end(request);
    is((await ended(call)).end, "UNKNOWN", "test status message");
  },
  async special_status_message() {
    is((await unary("UnaryCall", { response_status: { code: 2, message: SPECIAL } })).end, "UNKNOWN", SPECIAL);
  },
  async unimplemented_method() {
    is((await unary("UnimplementedCall", {})).end, "UNIMPLEMENTED");
  },
  async unimplemented_service() {
    const other = new UnimplementedService(where, credentials, options);
    const error = await new Promise((done) => other.UnimplementedCall({}, done));
    is(error, "UNIMPLEMENTED");
    other.close();
  },
  async cancel_after_begin() {
    const error = await new Promise((done) => client.StreamingInputCall(done).cancel());
    is(error, "CANCELLED");
  },
  async cancel_after_first_response() {
    const call = client.FullDuplexCall();
    call.write(parameters(31415));
    call.on("data", () => call.cancel());
    is((await ended(call)).end, "CANCELLED");
  },
  async timeout_on_sleeping_server() {
    const call = client.FullDuplexCall({ deadline: Date.now() + 50 });
    call.write(parameters(9, 5_000_000));
    is((await ended(call)).end, "DEADLINE_EXCEEDED");
  },
};

if (what === "server") {
  serve();
} else {
  for (const [name, run] of Object.entries(CASES)) {
    const said = await run().then(() => "ok", (error) => error.message.replaceAll("\n", " "));
    console.log(`${name} ${said}`);
  }
  // grpc-js keeps what was cancelled for a minute.
  process.exit();
}
