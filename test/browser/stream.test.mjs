import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { eventually, launchBrowser, startServer } from "./support.mjs";

// Both ends of a call reach the relay over a connection.

let browser;
let dir;

before(async () => {
  dir = mkdtempSync(path.join(os.tmpdir(), "turn-browser-"));
  const request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 10 -subj /CN=localhost";
  execFileSync("openssl", [...request.split(" "), "-keyout", `${dir}/key.pem`, "-out", `${dir}/cert.pem`], {
    stdio: "ignore",
  });
  // The certificate signs itself.
  browser = await launchBrowser("--ignore-certificate-errors");
});

after(async () => {
  await browser?.close();
  rmSync(dir, { recursive: true, force: true });
});

async function connect() {
  const { LoopbackCall } = await import("/js/loopback_call.js");
  const { createTone } = await import("/js/tone.js");
  const servers = await (await fetch("/ice_servers.json")).json();
  const tone = createTone();
  await tone.resume();
  const call = new LoopbackCall(servers, { policy: "relay", track: tone.track });
  const [caller, callee] = call.channel("messages");
  const open = new Promise((resolve) => {
    caller.addEventListener("open", resolve, { once: true });
  });
  await call.connect({ timeout: 20_000 });
  // SCTP comes after DTLS.
  await open;
  const got = new Promise((resolve) => {
    callee.addEventListener("message", ({ data }) => resolve(data));
  });
  caller.send("x".repeat(50_000));
  window.test = { call, tone };
  return { urls: servers.map(({ urls }) => urls), size: (await got).length };
}

function close() {
  window.test.call.close();
  window.test.tone.close();
}

async function callOver(t, options, url, transport) {
  const server = await startServer(...options);
  t.after(() => server.stop());
  const page = await browser.newPage();
  t.after(() => page.close());
  await page.goto(`${server.url}js/loopback_call.js`);
  const { urls, size } = await page.evaluate(connect);
  assert.deepEqual(urls.map((text) => text.replace(/:\d+\?/, ":PORT?")), [url]);
  assert.equal(size, 50_000);
  const allocations = await server.list();
  assert.deepEqual(new Set(allocations.map((a) => a.transport)), new Set([transport]));
  await eventually(async () => {
    const { counters } = await server.stats();
    return [counters.up_packets > 100 && counters.down_packets > 100, counters];
  });
  await page.evaluate(close);
  await eventually(async () => {
    const stats = await server.stats();
    return [stats.allocations === 0, stats];
  });
}

test("two peers meet through turn:?transport=tcp", async (t) => {
  await callOver(t, ["listen=tcp:127.0.0.1:0"], "turn:127.0.0.1:PORT?transport=tcp", "tcp");
});

test("two peers meet through turns:", async (t) => {
  const options = ["listen=tls:127.0.0.1:0", `cert=${dir}/cert.pem`, `key=${dir}/key.pem`];
  await callOver(t, options, "turns:127.0.0.1:PORT?transport=tcp", "tls");
});
