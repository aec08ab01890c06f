// The page that shows calls while they run, in a real browser: Debian's chromium.
//
// FOURMODES_SERVER_BIN and FOURMODES_CLIENT_BIN are the programs; interop/run.sh sets them.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { get } from "node:http";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";

import { chromium } from "playwright-core";

const TIMEOUT = 20_000;
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("FOURMODES_")));
// A peer may choose these words.
const HOSTILE = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;

let server, url, address, browser, page, problems;

/** A client that is ended with the test, unless it ends by itself. */
function client(t, ...options) {
  const program = spawn(process.env.FOURMODES_CLIENT_BIN, ["--server", url, ...options], { env, stdio: ["pipe", "ignore", "inherit"] });
  t.after(() => program.kill());
  return program;
}

before(async () => {
  const options = ["--listen", "127.0.0.1:0", "--data-dir", ":memory:", "--page", "127.0.0.1:0", "all"];
  server = spawn(process.env.FOURMODES_SERVER_BIN, options, { env: { ...env, RUST_LOG: "info", NO_COLOR: "1" }, stdio: ["ignore", "pipe", "pipe"] });
  const log = createInterface(server.stderr);
  address = await new Promise((resolve) => log.on("line", (line) => line.includes("page at ") && resolve(line.split("page at ")[1])));
  [url] = (await once(createInterface(server.stdout), "line")).map((line) => line.replace("listening on ", ""));
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
  page = await browser.newPage();
  page.setDefaultTimeout(TIMEOUT);
  problems = [];
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  await page.goto(address);
  await page.getByRole("status").filter({ hasText: "live" }).waitFor();
});

after(async () => {
  await browser?.close();
  const exited = once(server, "exit");
  server.kill("SIGTERM");
  assert.deepEqual(await exited, [0, null]);
});

/** The row of the latest call of a method. */
const row = (method) => page.locator("#calls tr", { hasText: method }).first();
const diagram = () => page.locator("#diagram li");

test("a call of each mode appears while it runs, and ends", async (t) => {
  client(t, "unary", "multiply", "6", "7");
  const unary = row("Multiply");
  await unary.filter({ hasText: "OK" }).waitFor();
  await unary.click();
  await page.getByRole("heading", { name: /UnaryService\/Multiply\s+unary\s+OK/ }).waitFor();
  const lines = await diagram().allTextContents();
  const parts = ["HEADERS /fourmodes.v1.UnaryService/Multiply", `message 1  {"a":"6","b":"7"}`, "half-close", "HEADERS", `message 1  {"product":"42"}`, "trailers  OK"];
  parts.forEach((part, n) => assert.ok(lines[n].includes(part), `${part} is not in ${lines[n]}`));

  const quotes = client(t, "server-streaming", "quotes", "--count", "0", "--interval", "50ms");
  const stream = row("WatchQuotes");
  await stream.filter({ hasText: "open" }).waitFor();
  await stream.click();
  // It grows while nobody does anything.
  await diagram().filter({ hasText: "message 3" }).first().waitFor();
  await page.locator("#gaps polyline.from-server").waitFor();
  quotes.kill("SIGINT");
  await stream.filter({ hasText: "cancelled" }).waitFor();
  await diagram().filter({ hasText: "cancel" }).waitFor();

  const readings = client(t, "client-streaming", "readings", "-");
  readings.stdin.end("device,time,value\nkitchen,2026-01-01T00:00:00Z,21.5\n");
  await row("RecordReadings").filter({ hasText: "OK" }).waitFor();

  const chat = client(t, "bidi-streaming", "chat", "--room", "page", "--name", "ana");
  await row("Chat").filter({ hasText: "open" }).waitFor();
  await row("Chat").click();
  chat.stdin.write(`${HOSTILE}\n`);
  await diagram().filter({ hasText: "onerror" }).first().waitFor();
  chat.stdin.end();
  await row("Chat").filter({ hasText: "OK" }).waitFor();
  assert.equal(await page.title(), "Calls – Four Modes");
  assert.equal(await page.locator("#diagram img, #diagram script").count(), 0);
});

test("ten thousand messages a second leave it usable", async (t) => {
  const program = client(t, "server-streaming", "quotes", "--count", "0", "--interval", "0s", "--quiet");
  const stream = row("WatchQuotes");
  await stream.filter({ hasText: "open" }).waitFor();
  await stream.click();
  const received = async () => Number(await stream.locator("td").nth(4).textContent());
  await page.waitForFunction(() => [...document.querySelectorAll("#calls td:nth-child(5)")].some((cell) => Number(cell.textContent) > 20_000), null, { timeout: 60_000 });
  // What the page draws is bounded, and a key is answered at once.
  const begun = Date.now();
  await page.keyboard.press("p");
  await page.getByRole("status").filter({ hasText: "paused" }).waitFor();
  assert.ok(Date.now() - begun < 5_000, `${Date.now() - begun} ms`);
  assert.ok((await diagram().count()) <= 400);
  await page.getByText("earlier events are not shown").waitFor();
  const before = await received();
  await page.keyboard.press("p");
  await page.waitForFunction((before) => [...document.querySelectorAll("#calls td:nth-child(5)")].some((cell) => Number(cell.textContent) > before), before);
  program.kill("SIGINT");
  await stream.filter({ hasText: "cancelled" }).waitFor();
});

test("the keyboard and the filter choose calls", async (t) => {
  await once(client(t, "unary", "multiply", "9223372036854775807", "2"), "exit");
  await row("Multiply").filter({ hasText: "OUT_OF_RANGE" }).waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type("out_of_range");
  await page.waitForFunction(() => document.querySelectorAll("#calls tr").length === 1);
  await page.keyboard.press("Enter");
  await page.locator("#filter").blur();
  await page.keyboard.press("ArrowDown");
  await page.getByRole("heading", { name: /OUT_OF_RANGE/ }).waitFor();
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => document.querySelectorAll("#calls tr").length > 1);
});

test("it fits a screen of 360 pixels", async () => {
  await page.setViewportSize({ width: 360, height: 640 });
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  await page.setViewportSize({ width: 1280, height: 800 });
});

test("a foreign Host and a foreign Origin are refused", async () => {
  const { port } = new URL(address);
  const status = (headers) =>
    new Promise((resolve, reject) => get({ host: "127.0.0.1", port, path: "/events", headers }, (answer) => {
      resolve(answer.statusCode);
      answer.destroy();
    }).on("error", reject));
  assert.equal(await status({ host: "localhost" }), 200);
  assert.equal(await status({ host: "evil.example" }), 403);
  assert.equal(await status({ host: "localhost", origin: "http://evil.example" }), 403);
});

test("a server says that it sees no windows", async () => {
  await row("WatchQuotes").click();
  await page.getByText("A server sees no windows of HTTP/2").waitFor();
  assert.ok(await page.locator("#corner").isHidden());
});

test("on watch, calls that pass have windows, and the corner makes calls in all four modes", async (t) => {
  const options = ["watch", "--listen", "127.0.0.1:0", "--to", url, "--page", "127.0.0.1:0", "--quiet"];
  const watch = spawn(process.env.FOURMODES_CLIENT_BIN, options, { env, stdio: ["ignore", "ignore", "pipe"] });
  t.after(() => watch.kill());
  const said = [];
  for await (const line of createInterface(watch.stderr)) {
    said.push(line);
    if (line.startsWith("page at ")) break;
  }
  const through = said.find((line) => line.startsWith("watching ")).slice("watching ".length).split(",")[0];
  const page = await browser.newPage();
  t.after(() => page.close());
  page.setDefaultTimeout(TIMEOUT);
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  await page.goto(said.at(-1).slice("page at ".length));
  await page.getByRole("status").filter({ hasText: "live" }).waitFor();
  const row = (method) => page.locator("#calls tr", { hasText: method }).first();
  const line = (text) => page.locator("#diagram li", { hasText: text }).first();

  const quotes = spawn(process.env.FOURMODES_CLIENT_BIN, ["--server", through, "server-streaming", "quotes", "--count", "0", "--interval", "50ms"], { env, stdio: "ignore" });
  t.after(() => quotes.kill());
  await row("WatchQuotes").click();
  await page.locator("#windows polyline.from-server").waitFor();
  await page.getByText("Flow control window left").waitFor();
  quotes.kill("SIGINT");
  // Whether it resets the stream before its connection ends is up to the client.
  await row("WatchQuotes").filter({ hasText: /cancelled|broken/ }).waitFor();

  await page.getByText("Make a call").click();
  await page.getByText("No browser can call gRPC by itself").waitFor();
  const button = (name) => page.locator("#corner").getByRole("button", { name, exact: true });
  const choose = async (method) => {
    await page.locator("#methods option").first().waitFor({ state: "attached" });
    await page.getByLabel("Method", { exact: true }).fill(`fourmodes.v1.${method}`);
  };
  const message = (value) => page.getByLabel("Message as JSON").fill(JSON.stringify(value));
  const chosen = (text) => page.locator("#call-title", { hasText: text }).waitFor();

  await choose("UnaryService/Multiply");
  assert.deepEqual(Object.keys(JSON.parse(await page.getByLabel("Message as JSON").inputValue())), ["a", "b"]);
  await message({ a: 6, b: "7" });
  await button("Call").click();
  await chosen("Multiply");
  await line(`{"product":"42"}`).waitFor();
  await message({ c: HOSTILE });
  await button("Call").click();
  await page.locator("#told", { hasText: "c" }).waitFor();

  await choose("UnaryService/Multiply");
  await page.getByLabel("Metadata").fill("no colon");
  await button("Call").click();
  await page.locator("#told", { hasText: "metadata: write it as 'key: value'" }).waitFor();
  await page.getByLabel("Metadata").fill("x-own: seen\nauthorization: Bearer of-nobody");
  await page.getByLabel("Deadline").fill("soon");
  await button("Call").click();
  await page.locator("#told", { hasText: "deadline: " }).waitFor();
  // Reflection has to fit into it on a busy machine.
  await page.getByLabel("Deadline").fill("3s");
  await choose("ServerStreamingService/WatchQuotes");
  // So few that the page keeps the first events.
  await message({ symbols: ["ACME"], interval: "0.5s" });
  await button("Call").click();
  await chosen(/DEADLINE_EXCEEDED|cancelled/);
  const head = line("HEADERS /fourmodes.v1.ServerStreamingService/WatchQuotes");
  const shown = await head.getAttribute("title");
  assert.match(shown, /^x-own: seen$/m);
  assert.match(shown, /^grpc-timeout: /m);
  assert.match(shown, /^authorization: \(masked\)$/m);
  await page.getByLabel("Metadata").fill("");
  await page.getByLabel("Deadline").fill("");

  await choose("ServerStreamingService/WatchQuotes");
  await message({ symbols: ["ACME"] });
  await button("Call").click();
  await line("message 1").waitFor();
  await button("Cancel").click();
  await chosen("cancelled");

  await choose("ClientStreamingService/RecordReadings");
  await button("Call").click();
  await chosen("RecordReadings");
  await button("Half-close").click();
  await line("half-close").waitFor();
  await line("trailers").waitFor();

  await choose("BidiStreamingService/Chat");
  await button("Call").click();
  await chosen("Chat");
  const id = "7c0d6a3f-9c7e-4d53-8a1c-2f5b7f0e1d42";
  await message({ join: { room: "corner", name: "ana", memberId: id } });
  await button("Send").click();
  await line("joined").waitFor();
  await message({ post: { text: HOSTILE, messageId: id } });
  await button("Send").click();
  await line("posted").waitFor();
  assert.ok(await button("Call").isDisabled());
  await button("Half-close").click();
  await chosen("OK");
  assert.ok(await button("Call").isEnabled());
  assert.equal(await page.title(), "Calls – Four Modes");
  await page.setViewportSize({ width: 360, height: 640 });
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  // Before its events end.
  await page.close();
});

test("the browser has no complaint", () => assert.deepEqual(problems, []));
