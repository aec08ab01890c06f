// `fourmodes call` at a server with @grpc/grpc-js: all four modes, by its reflection and by descriptors.
//
// FOURMODES_CLIENT_BIN is the path of the client, FOURMODES_DESCRIPTORS that of the descriptors of
// what is served here; interop/run.sh makes and sets them.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";

import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const bytes = readFileSync(process.env.FOURMODES_DESCRIPTORS);
const files = fromBinary(FileDescriptorSetSchema, bytes).file;
const loaded = loader.loadFileDescriptorSetFromBuffer(bytes, { longs: String, enums: String, oneofs: true });
const { fourmodes, grpc: standard } = grpc.loadPackageDefinition(loaded);

/** What grpc's reflection says of a file by its name, or by a service in it. */
const reflect = (call) => {
  call.on("data", (asked) => {
    const file = files.find(
      (file) =>
        file.name === asked.file_by_filename ||
        file.service.some((service) => `${file.package}.${service.name}` === asked.file_containing_symbol),
    );
    if (file) {
      call.write({ file_descriptor_response: { file_descriptor_proto: [toBinary(FileDescriptorProtoSchema, file)] } });
    } else if (asked.list_services !== undefined) {
      call.write({ list_services_response: { service: [{ name: "fourmodes.v1.UnaryService" }] } });
    } else {
      call.write({ error_response: { error_code: grpc.status.NOT_FOUND, error_message: "not here" } });
    }
  });
  call.on("end", () => call.end());
};

const server = new grpc.Server();
let address;
before(async () => {
  const { v1 } = fourmodes;
  server.addService(v1.UnaryService.service, {
    Multiply: ({ request }, done) => {
      if (request.a === undefined) {
        const metadata = new grpc.Metadata();
        metadata.set("x-why", "zero");
        return done({ code: grpc.status.INVALID_ARGUMENT, details: "a is zero", metadata });
      }
      done(null, { product: String(BigInt(request.a) * BigInt(request.b)) });
    },
  });
  server.addService(v1.ServerStreamingService.service, {
    WatchQuotes: (call) => {
      for (let number = 1; number <= 3; number += 1) call.write({ quote: { symbol: call.request.symbols[0], sequence: number } });
      call.end();
    },
  });
  server.addService(v1.ClientStreamingService.service, {
    RecordReadings: (call, done) => {
      let accepted = 0;
      call.on("data", () => (accepted += 1));
      call.on("end", () => done(null, { count: String(accepted) }));
    },
  });
  server.addService(v1.BidiStreamingService.service, {
    Chat: (call) => {
      call.on("data", ({ join }) => call.write({ event: { name: join.name } }));
      call.on("end", () => call.end());
    },
  });
  server.addService(standard.reflection.v1alpha.ServerReflection.service, { ServerReflectionInfo: reflect });
  const port = await promisify(server.bindAsync.bind(server))("127.0.0.1:0", grpc.ServerCredentials.createInsecure());
  address = `127.0.0.1:${port}`;
});
after(() => server.forceShutdown());

const call = async (...args) => {
  const { stdout } = await promisify(execFile)(process.env.FOURMODES_CLIENT_BIN, ["call", address, ...args], { timeout: 60_000 });
  return stdout;
};

describe("call", () => {
  for (const by of [[], ["--descriptors", process.env.FOURMODES_DESCRIPTORS]]) {
    test(`all four modes, ${by.length ? "by descriptors" : "by reflection"}`, async () => {
      const responses = async (method, data) =>
        (await call(`fourmodes.v1.${method}`, "-q", "-d", data, ...by)).trim().split("\n").map((line) => JSON.parse(line));
      assert.deepEqual(await responses("UnaryService/Multiply", '{"a": 6, "b": "7"}'), [{ product: "42" }]);
      const quotes = await responses("ServerStreamingService/WatchQuotes", '{"symbols": ["ACME"]}');
      assert.deepEqual(quotes.map(({ quote }) => [quote.symbol, quote.sequence]), [["ACME", "1"], ["ACME", "2"], ["ACME", "3"]]);
      const recorded = await responses("ClientStreamingService/RecordReadings", "{} {} {}");
      assert.equal(recorded[0].count, "3");
      const heard = await responses("BidiStreamingService/Chat", '{"join": {"name": "ana"}} {"join": {"name": "ben"}}');
      assert.deepEqual(heard.map(({ event }) => event.name), ["ana", "ben"]);
    });
  }

  test("what any server tells is checked", async () => {
    const { stdout } = await promisify(execFile)(process.env.FOURMODES_CLIENT_BIN, ["check", `http://${address}`, "--output", "json"], { timeout: 60_000 });
    const lines = stdout.trim().split("\n").map((line) => JSON.parse(line));
    const outcome = (name) => lines.find((line) => line.name === name).outcome;
    const names = ["http2", "round-trip", "8-kib", "1200-calls", "reflection-v1alpha"];
    assert.deepEqual(names.map(outcome), names.map(() => "pass"));
    assert.equal(outcome("full-duplex"), "skip");
  });

  test("a status and its trailers", async () => {
    await assert.rejects(call("fourmodes.v1.UnaryService/Multiply", "-q", "-v"), (error) => {
      assert.equal(error.code, 1);
      assert.match(error.stderr, /INVALID_ARGUMENT: a is zero/);
      assert.match(error.stderr, /trailer {2}x-why: zero/);
      return true;
    });
  });
});
