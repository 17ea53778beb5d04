import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { isRelayed, selectedPair } from "../../assets/js/stats.js";
import { eventually, launchBrowser, startServer } from "./support.mjs";

const MESSAGES = 1000;

let server;
let browser;

before(async () => {
  [server, browser] = await Promise.all([startServer(), launchBrowser()]);
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** A page of the server's origin with a connected call. */
async function openCall(t) {
  const page = await browser.newPage();
  t.after(() => page.close());
  await page.goto(`${server.url}js/loopback_call.js`);
  await page.evaluate(connect);
  return page;
}

/** Ends the page's call; the relay's counters when it has taken its addresses back. */
async function closeCall(page) {
  await page.evaluate(close);
  const { counters } = await eventually(async () => {
    const stats = await server.stats();
    return [stats.allocations === 0, stats];
  });
  return counters;
}

// ---- what runs in the page; it keeps its state in `window.test` ----

async function connect() {
  const { LoopbackCall } = await import("/js/loopback_call.js");
  const { createTone } = await import("/js/tone.js");
  const servers = await (await fetch("/ice_servers.json")).json();

  const tone = createTone();
  await tone.resume();
  const call = new LoopbackCall(servers, { policy: "relay", track: tone.track });
  const messages = call.channel("messages");
  await call.connect({ timeout: 20_000 });
  window.test = { call, tone, messages };
}

/**
 * Sends numbered messages of many sizes below `most` both ways, all at once; what each end got, and
 * what it should have.
 */
async function exchange({ count, most }) {
  const { messages } = window.test;
  const message = (end, i) => `${end}:${i}:${"x".repeat((i * 37) % most)}`;
  const results = messages.map((end, index) => {
    const got = [];
    const all = new Promise((resolve) => {
      end.addEventListener("message", ({ data }) => {
        got.push(data);
        if (got.length === count) resolve();
      });
    });
    const other = 1 - index;
    const wanted = Array.from({ length: count }, (_, i) => message(other, i));
    return { got, all, wanted };
  });
  for (let i = 0; i < count; i++) messages.forEach((end, index) => end.send(message(index, i)));
  await Promise.race([
    Promise.all(results.map(({ all }) => all)),
    new Promise((resolve) => setTimeout(resolve, 20_000)),
  ]);
  return results.map(({ got, wanted }) => ({ got, wanted }));
}

async function reports() {
  const { caller, callee } = await window.test.call.stats();
  return { caller: [...caller], callee: [...callee] };
}

function close() {
  window.test.call.close();
  window.test.tone.close();
}

// ---- what the reports say ----

const ofType = (report, type) => report.map(([, stats]) => stats).filter((s) => s.type === type);
const sum = (list, key) => list.reduce((total, entry) => total + (entry[key] ?? 0), 0);

function audioPackets(report) {
  return sum(ofType(report, "inbound-rtp").filter((s) => s.kind === "audio"), "packetsReceived");
}

/** What the browser handed to the relay: payload that its candidate pairs count, and checks. */
function sent({ caller, callee }) {
  const pairs = [caller, callee].flatMap((report) => ofType(report, "candidate-pair"));
  const checks = ["requestsSent", "responsesSent", "consentRequestsSent"].map((key) => sum(pairs, key));
  return {
    bytes: sum(pairs, "bytesSent"),
    packets: sum(pairs, "packetsSent"),
    checks: checks.reduce((a, b) => a + b),
  };
}

test("two peers exchange audio and data through the relay and only through it", async (t) => {
  const page = await openCall(t);
  for (const { got, wanted } of await page.evaluate(exchange, { count: MESSAGES, most: 3000 })) {
    assert.equal(got.length, MESSAGES, "every message came");
    assert.deepEqual(got, wanted, "in order and whole");
  }

  const first = await page.evaluate(reports);
  const last = await eventually(async () => {
    const now = await page.evaluate(reports);
    const more = ["caller", "callee"].map((end) => audioPackets(now[end]) - audioPackets(first[end]));
    return [more.every((packets) => packets >= 25), now];
  });

  for (const end of ["caller", "callee"]) {
    const pair = selectedPair(last[end]);
    assert.ok(isRelayed(pair), `${end}'s selected pair: ${JSON.stringify(pair)}`);
    const types = ofType(last[end], "local-candidate").map((c) => c.candidateType);
    assert.deepEqual([...new Set(types)], ["relay"], `${end} had no other candidate to use`);
  }
  await closeCall(page);
});

test("the relay's counters agree with the browser's", async (t) => {
  const start = await server.stats();
  assert.equal(start.allocations, 0);
  const page = await openCall(t);
  const received = await page.evaluate(exchange, { count: MESSAGES, most: 200 });
  const payload = received.flatMap(({ got }) => got).join("").length;

  // Traffic goes on, so the browser is asked between two looks at the relay.
  const since = async () => difference((await server.stats()).counters, start.counters);
  const earlier = await since();
  const browserReports = await page.evaluate(reports);
  const later = await since();
  const { bytes, packets, checks } = sent(browserReports);

  assert.ok(bytes >= payload, `the browser sent ${bytes} bytes for ${payload} of payload`);
  assert.ok(later.up_bytes >= bytes, `${later.up_bytes} bytes relayed of ${bytes} sent`);
  assert.ok(later.up_packets >= packets, `${later.up_packets} packets relayed of ${packets} sent`);
  const checksMost = checks + 20;
  assert.ok(earlier.up_packets <= packets + checksMost, `${earlier.up_packets} packets from nowhere`);
  assert.ok(earlier.up_bytes <= bytes + checksMost * 200, `${earlier.up_bytes} bytes from nowhere`);

  const allocations = await server.list();
  const relayed = ["caller", "callee"].flatMap((end) =>
    ofType(browserReports[end], "local-candidate").map((c) => `${c.address}:${c.port}`),
  );
  assert.deepEqual(allocations.map((a) => a.relayed).sort(), relayed.sort());
  assert.equal(later.allocations_created, relayed.length);

  checkEnd(difference(await closeCall(page), start.counters), relayed.length);
});

function difference(now, then) {
  return Object.fromEntries(Object.keys(now).map((key) => [key, now[key] - then[key]]));
}

function checkEnd(counters, allocations) {
  const zero = [
    "allocations_expired", "allocations_killed", "unauthenticated", "stale_nonces", "errors",
    "forbidden", "drop_malformed", "drop_unexpected", "drop_no_channel", "drop_rate_limited",
    "drop_send", "drop_receive",
  ];
  for (const key of zero) assert.equal(counters[key], 0, key);
  assert.equal(counters.allocations_created, allocations);
  assert.equal(counters.allocations_released, allocations);

  // Peers send their first checks before the other side has permitted them, and the kernel may drop
  // a few packets on a busy machine.
  const { up_packets: up, down_packets: down, drop_no_permission: early } = counters;
  assert.ok(early <= 20, `${early} packets before they were permitted`);
  assert.ok(down <= up && down >= up * 0.98 - early, `of ${up} packets up, ${down} came down`);
}
