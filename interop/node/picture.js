// Writes a picture of the page: node picture.js FILE.png. `just page-picture` calls it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("FOURMODES_")));
const options = ["--listen", "127.0.0.1:0", "--data-dir", ":memory:", "--page", "127.0.0.1:0", "all"];
const server = spawn(process.env.FOURMODES_SERVER_BIN, options, { env: { ...env, RUST_LOG: "info", NO_COLOR: "1" }, stdio: ["ignore", "pipe", "pipe"] });
const programs = [server];
try {
  const log = createInterface(server.stderr);
  const address = await new Promise((resolve) => log.on("line", (line) => line.includes("page at ") && resolve(line.split("page at ")[1])));
  const [line] = await once(createInterface(server.stdout), "line");
  const client = (...words) => {
    const program = spawn(process.env.FOURMODES_CLIENT_BIN, ["--server", line.replace("listening on ", ""), ...words], { env, stdio: ["pipe", "ignore", "ignore"] });
    programs.push(program);
    return program;
  };
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
  const page = await browser.newPage({ viewport: { width: 1280, height: 720 } });
  await page.goto(address);
  await page.getByRole("status").filter({ hasText: "live" }).waitFor();
  const row = (method, status) => page.locator("#calls tr", { hasText: method }).filter({ hasText: status }).first();
  client("unary", "multiply", "6", "7");
  await row("Multiply", "OK").waitFor();
  client("unary", "multiply", "9223372036854775807", "2");
  await row("Multiply", "OUT_OF_RANGE").waitFor();
  client("client-streaming", "readings", "-").stdin.end("device,time,value\nkitchen,2026-01-01T00:00:00Z,21.5\n");
  await row("RecordReadings", "OK").waitFor();
  const chat = client("bidi-streaming", "chat", "--room", "lobby", "--name", "ana");
  await row("Chat", "open").waitFor();
  chat.stdin.write("hello\n");
  client("server-streaming", "quotes", "--count", "0", "--symbols", "ACME", "--interval", "120ms");
  await row("WatchQuotes", "open").click();
  await page.locator("#diagram li", { hasText: "message 8" }).waitFor();
  await page.screenshot({ path: process.argv[2] });
  await browser.close();
} finally {
  programs.forEach((program) => program.kill());
}
