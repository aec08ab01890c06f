// Calls the server as programs with @grpc/grpc-js do, and as a browser does by
// gRPC-Web (@connectrpc/connect-web over fetch).
//
// FOURMODES_SERVER_BIN is the path of the server, FOURMODES_DESCRIPTORS that of
// the descriptors of all that is called here; interop/run.sh makes and sets them.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";

import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

// Milliseconds. Long enough for a busy machine: only a call that hangs comes to it.
const TIMEOUT = 20_000;

const descriptors = readFileSync(process.env.FOURMODES_DESCRIPTORS);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptors));
const loaded = loader.loadFileDescriptorSetFromBuffer(descriptors, { longs: String, enums: String, defaults: true, oneofs: true });
const { fourmodes, grpc: standard } = grpc.loadPackageDefinition(loaded);
const { v1 } = fourmodes;

/** A server process on a port of its own choice. */
class Server {
  static async start(...options) {
    // Settings of the shell at hand are not under test.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("FOURMODES_")));
    const own = ["--listen", "127.0.0.1:0", "--data-dir", ":memory:", ...options, "all"];
    const server = new Server();
    server.process = spawn(process.env.FOURMODES_SERVER_BIN, own, {
      env: { RUST_LOG: "warn", ...env },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = await once(createInterface(server.process.stdout), "line");
    server.address = new URL(line.replace("listening on ", "")).host;
    return server;
  }

  async stop() {
    const exited = once(this.process, "exit");
    this.process.kill("SIGTERM");
    assert.deepEqual(await exited, [0, null]);
  }
}

const deadline = (milliseconds = TIMEOUT) => ({ deadline: Date.now() + milliseconds });

/** The response of a call with one, or its error. */
const answer = (call) =>
  new Promise((resolve, reject) => call((error, response) => (error ? reject(error) : resolve(response))));

/** All responses of a stream, and its status when it has ended with OK. */
async function all(call) {
  const responses = [];
  const status = once(call, "status");
  for await (const response of call) responses.push(response);
  assert.equal((await status)[0].code, grpc.status.OK);
  return responses;
}

/** The only detail of an error. */
function detail(error) {
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  const status = fromBinary(registry.getMessage("google.rpc.Status"), bytes);
  assert.equal(status.code, error.code);
  assert.equal(status.details.length, 1);
  const [{ typeUrl, value }] = status.details;
  const message = registry.getMessage(typeUrl.split("/").at(-1));
  return { type: message.name, ...fromBinary(message, value) };
}

let server;
before(async () => (server = await Server.start()));
after(async () => await server.stop());

describe("grpc-js", () => {
  const clients = [];
  const client = (Service, credentials = grpc.credentials.createInsecure(), address = server.address) => {
    const made = new Service(address, credentials, { "grpc.enable_http_proxy": 0 });
    clients.push(made);
    return made;
  };
  after(() => clients.forEach((made) => made.close()));

  const openCalls = async (mode) => {
    const { modes } = await answer((done) => client(v1.UnaryService).getStatus({}, deadline(), done));
    return Number(modes.find((status) => status.mode === mode).calls_open);
  };
  // The server hears of a client's end a moment after the client.
  const noOpenCalls = async (mode) => {
    const until = Date.now() + TIMEOUT;
    while ((await openCalls(mode)) > 0) assert.ok(Date.now() < until, "a call that its client has ended is still open");
  };

  test("unary", async () => {
    const multiply = (a, b) => answer((done) => client(v1.UnaryService).multiply({ a, b }, deadline(), done));
    assert.equal((await multiply(6, 7)).product, "42");
  });

  test("error details", async () => {
    const request = { a: (2n ** 62n).toString(), b: 2 };
    const error = await answer((done) => client(v1.UnaryService).multiply(request, deadline(), done)).catch((e) => e);
    assert.equal(error.code, grpc.status.OUT_OF_RANGE);
    // With a character that is percent-encoded on the wire.
    assert.match(error.details, / × 2 /);
    const info = detail(error);
    assert.deepEqual([info.type, info.reason, info.domain], ["ErrorInfo", "INT64_OVERFLOW", "fourmodes"]);
  });

  test("server streaming", async () => {
    const quotes = await all(client(v1.ServerStreamingService).watchQuotes({ symbols: ["ACME"], count: 5 }, deadline()));
    const numbers = quotes.map(({ quote }) => Number(quote.sequence));
    assert.equal(quotes.length, 5);
    assert.ok(numbers.every((number, index) => index === 0 || number > numbers[index - 1]), numbers.join());
  });

  test("client streaming", async () => {
    const response = await answer((done) => {
      const call = client(v1.ClientStreamingService).recordReadings(deadline(), done);
      [180, 184].forEach((value, index) =>
        call.write({
          producer_id: "node",
          device: "kiln",
          sequence: index + 1,
          readings: [{ time: { seconds: 60 * index }, value, line: index + 1 }],
        }),
      );
      call.end();
    });
    assert.equal(response.count, "2");
    assert.equal(response.devices[0].mean, 182);
  });

  test("bidi streaming", async () => {
    const call = client(v1.BidiStreamingService).chat(deadline());
    const heard = [];
    const ended = once(call, "status");
    call.write({ join: { room: "node", name: "ana" } });
    call.on("data", ({ event }) => {
      if (!event) return;
      heard.push(event.event);
      // The one says what the other heard: a dialogue, not two monologues.
      if (event.joined) call.write({ post: { text: "alone?" } });
      if (event.posted) call.end();
    });
    assert.equal((await ended)[0].code, grpc.status.OK);
    assert.deepEqual(heard, ["joined", "posted", "left"]);
  });

  test("deadline", async () => {
    const stub = client(v1.ServerStreamingService);
    // The deadline is for the call alone, not for the connection.
    await answer((done) => stub.waitForReady(Date.now() + TIMEOUT, done));
    const call = stub.watchQuotes({ interval: { seconds: 1 } }, deadline(300));
    call.on("data", () => {});
    const [error] = await once(call, "error");
    assert.equal(error.code, grpc.status.DEADLINE_EXCEEDED);
    await noOpenCalls("MODE_SERVER_STREAMING");
  });

  test("cancel", async () => {
    const call = client(v1.ServerStreamingService).watchQuotes({}, deadline());
    await once(call, "data");
    assert.ok((await openCalls("MODE_SERVER_STREAMING")) > 0);
    call.cancel();
    const [error] = await once(call, "error");
    assert.equal(error.code, grpc.status.CANCELLED);
    await noOpenCalls("MODE_SERVER_STREAMING");
  });

  test("health", async () => {
    const check = (service) =>
      answer((done) => client(standard.health.v1.Health).check({ service }, deadline(), done));
    assert.equal((await check("")).status, "SERVING");
    assert.equal((await check("fourmodes.v1.UnaryService")).status, "SERVING");
    assert.equal((await check("nobody").catch((error) => error)).code, grpc.status.NOT_FOUND);
  });

  for (const version of ["v1", "v1alpha"]) {
    test(`reflection ${version}`, async () => {
      const call = client(standard.reflection[version].ServerReflection).serverReflectionInfo(deadline());
      call.write({ list_services: "*" });
      call.end();
      const [response] = await all(call);
      const names = response.list_services_response.service.map(({ name }) => name);
      assert.ok(names.includes("fourmodes.v1.BidiStreamingService"), names.join());
    });
  }

  test("mTLS", async () => {
    const directory = mkdtempSync(path.join(tmpdir(), "interop-"));
    const file = (name) => path.join(directory, name);
    let secured;
    try {
      execFileSync(process.env.FOURMODES_SERVER_BIN, ["certs", "--dir", directory], { stdio: "ignore" });
      const files = ["--tls-cert", file("server.pem"), "--tls-key", file("server-key.pem")];
      secured = await Server.start(...files, "--client-ca", file("ca.pem"));
      const address = secured.address.replace("127.0.0.1", "localhost");
      const multiply = (credentials) =>
        answer((done) => client(v1.UnaryService, credentials, address).multiply({ a: 6, b: 7 }, deadline(), done));
      const [ca, key, cert] = ["ca.pem", "client-key.pem", "client.pem"].map((name) => readFileSync(file(name)));
      assert.equal((await multiply(grpc.credentials.createSsl(ca, key, cert))).product, "42");
      const error = await multiply(grpc.credentials.createSsl(ca)).catch((e) => e);
      assert.equal(error.code, grpc.status.UNAVAILABLE);
    } finally {
      await secured?.stop();
      rmSync(directory, { recursive: true });
    }
  });
});

describe("gRPC-Web", () => {
  const client = (service) =>
    createClient(
      registry.getService(service),
      createGrpcWebTransport({ baseUrl: `http://${server.address}`, defaultTimeoutMs: TIMEOUT }),
    );

  test("unary", async () => {
    const { product } = await client("fourmodes.v1.UnaryService").multiply({ a: 6n, b: 7n });
    assert.equal(product, 42n);
  });

  test("an error, and what it is about", async () => {
    const error = await client("fourmodes.v1.UnaryService").multiply({ a: 2n ** 62n, b: 2n }).catch(ConnectError.from);
    assert.equal(error.code, Code.OutOfRange);
    const [info] = error.findDetails(registry.getMessage("google.rpc.ErrorInfo"));
    assert.equal(info.reason, "INT64_OVERFLOW");
  });

  test("server streaming", async () => {
    const quotes = [];
    const request = { symbols: ["ACME"], count: 5n };
    for await (const { event } of client("fourmodes.v1.ServerStreamingService").watchQuotes(request)) {
      quotes.push(event.value.symbol);
    }
    assert.deepEqual(quotes, Array(5).fill("ACME"));
  });

  // Whatever the server can do: docs/choosing.md says so.
  test("a page cannot stream a request", async () => {
    const readings = async function* () {};
    const error = await client("fourmodes.v1.ClientStreamingService").recordReadings(readings()).catch((it) => it);
    assert.match(String(error), /fetch API does not support streaming request bodies/);
  });
});
