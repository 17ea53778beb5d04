import assert from "node:assert/strict";
import dgram from "node:dgram";
import { once } from "node:events";
import { networkInterfaces } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { launchBrowser, ROOT, startDemo, startServer } from "./support.mjs";

const DESKTOP = { viewport: { width: 1280, height: 900 } };
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
const SMALL = { viewport: { width: 320, height: 640 }, colorScheme: "dark" };

let browser;
let demo;
let server;

before(async () => {
  [browser, demo, server] = await Promise.all([launchBrowser(), startDemo(), startServer()]);
});

after(async () => {
  await browser?.close();
  await server?.stop();
  await demo?.end("SIGKILL");
});

/** Opens the page of `url`; `answer` may change what it gets for ICE servers. */
async function openPage(t, url, options = DESKTOP, answer = null) {
  const context = await browser.newContext(options);
  t.after(() => context.close());
  const page = await context.newPage();
  page.errors = [];
  page.on("pageerror", (error) => page.errors.push(error.message));
  if (answer) await page.route("**/ice_servers.json", answer);
  await page.goto(url);
  return page;
}

/** Waits for the end of the check: {tone, title, text, steps}. */
async function outcome(page) {
  const ended = () => ["finished", "failed"].includes(document.documentElement.dataset.phase);
  await page.waitForFunction(ended, null, { timeout: 60_000 });
  assert.deepEqual(page.errors, []);
  return page.evaluate(() => ({
    tone: document.documentElement.dataset.tone,
    title: document.getElementById("verdict-title").textContent,
    text: document.getElementById("verdict-text").textContent,
    steps: [...document.querySelectorAll("#steps li")].map((li) => li.dataset.status).join(" "),
  }));
}

function screenshot(page, name) {
  return page.screenshot({ path: path.join(ROOT, "_build/browser", `${name}.png`), fullPage: true });
}

/** ICE servers as the page's server gives them, changed by `change`. */
function changed(change) {
  return async (route) => {
    const servers = await (await route.fetch()).json();
    await route.fulfill({ json: servers.map(change) });
  };
}

const number = async (page, id) => Number(await page.textContent(`#${id}`));

test("green: audio and data cross the relay of mix turn.demo", async (t) => {
  const page = await openPage(t, demo.url);
  await page.click("text=Test audio too");
  const { tone, title, text, steps } = await outcome(page);
  assert.deepEqual([tone, title], ["good", "The relay works"]);
  assert.match(text, /audio and data/);
  assert.equal(steps, "good good good good good");

  const types = await page.$$eval("#candidates tr", (rows) => rows.map((row) => row.className));
  assert.ok(types.includes("relay"), `candidates: ${types}`);
  const times = await page.$$eval("#candidates td:last-child", (cells) => cells.map((c) => c.textContent));
  for (const time of times) assert.match(time, /^\d+ ms$/);

  assert.ok((await number(page, "rtt-value")) > 0);
  assert.ok((await number(page, "rate-value")) > 1);
  for (const id of ["rtt-chart", "rate-chart"]) {
    const line = await page.getAttribute(`#${id} .line`, "d");
    assert.ok(line.split("L").length > 20, `${id} has a line: ${line.slice(0, 40)}`);
  }
  assert.match(await page.textContent("#path"), /relay to relay over UDP/);
  await screenshot(page, "green");
});

test("green on a phone, with nothing cut off; audio waits for a tap", async (t) => {
  const page = await openPage(t, demo.url, PHONE);
  const { tone, title, text, steps } = await outcome(page);
  assert.deepEqual([tone, title], ["good", "The relay works"]);
  assert.match(text, /Audio was not tested/);
  assert.equal(steps, "good good good good skipped");
  assert.ok(await page.isVisible("text=Run again with audio"));
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  await screenshot(page, "green-phone");

  await page.tap("text=Run again with audio");
  await page.waitForFunction(() => document.documentElement.dataset.phase === "measuring");
  const again = await outcome(page);
  assert.equal(again.steps, "good good good good good", "the tap started the sound too");
});

test("red: wrong credentials", async (t) => {
  const before = (await server.stats()).counters;
  const wrong = changed((entry) => (entry.credential ? { ...entry, credential: "d3Jvbmc=" } : entry));
  const page = await openPage(t, server.url, DESKTOP, wrong);
  const { tone, title, text, steps } = await outcome(page);
  assert.deepEqual([tone, title], ["bad", "The relay refused the credentials"]);
  assert.match(text, /401/);
  assert.equal(steps, "good bad todo todo todo");
  assert.match(await page.textContent("#errors"), /401/);
  await screenshot(page, "red-credentials");

  const after = (await server.stats()).counters;
  assert.ok(after.unauthenticated > before.unauthenticated, "the relay itself refused them");
  assert.equal(after.allocations_created, before.allocations_created);
});

test("red: no relay is there", async (t) => {
  const port = await freePort();
  const elsewhere = changed((entry) => ({ ...entry, urls: entry.urls.replace(/:\d+(?=\?|$)/, `:${port}`) }));
  const page = await openPage(t, server.url, SMALL, elsewhere);
  const { tone, title, text, steps } = await outcome(page);
  if (hasNetwork()) {
    assert.deepEqual([tone, title], ["bad", "The relay did not answer"]);
    assert.match(text, new RegExp(`127\\.0\\.0\\.1 port ${port} \\(UDP\\)`));
  } else {
    assert.deepEqual([tone, title], ["bad", "This browser gathered nothing"]);
    assert.match(text, /needs a network/);
  }
  assert.equal(steps, "good bad todo todo todo");
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 320);
  await screenshot(page, "red-silent-small");
});

test("red: the relay falls silent during the call", async (t) => {
  const page = await openPage(t, server.url);
  await page.waitForFunction(() => document.documentElement.dataset.tone === "good");
  process.kill(server.pid, "SIGSTOP");
  t.after(() => process.kill(server.pid, "SIGCONT"));
  const { tone, title } = await outcome(page);
  assert.deepEqual([tone, title], ["bad", "The call broke off"]);
});

test("red: the relay has too few addresses for a call", async (t) => {
  const strict = await startServer("user_quota=1");
  t.after(() => strict.stop());
  const page = await openPage(t, strict.url);
  const { tone, title, text, steps } = await outcome(page);
  assert.deepEqual([tone, title], ["bad", "This user has too many relayed addresses"]);
  assert.match(text, /486/);
  assert.equal(steps, "good good bad todo todo");
});

test("red: the app has no usable servers to give", async (t) => {
  const cases = [
    [(route) => route.fulfill({ status: 503 }), "The app gave no ICE servers", /503/],
    [(route) => route.fulfill({ body: "<html>" }), "The app gave no ICE servers", /asked/],
    [(route) => route.abort(), "The app gave no ICE servers", /asked/],
    [changed((entry) => ({ ...entry, username: null })), "The ICE servers are not usable", /leave the key out/],
    [changed(({ urls }) => ({ urls: urls.replace(/turn:([^?]*).*/, "stun:$1") })), "The app offered no relay", /STUN/],
  ];
  for (const [answer, expected, reason] of cases) {
    const page = await openPage(t, server.url, DESKTOP, answer);
    const { tone, title, text } = await outcome(page);
    assert.deepEqual([tone, title], ["bad", expected]);
    assert.match(text, reason);
  }
});

test("Ctrl-C and SIGTERM end mix turn.demo, relay included", async () => {
  const other = await startDemo();
  for (const [{ relayPort, end }, signal] of [[demo, "SIGTERM"], [other, "SIGINT"]]) {
    assert.equal(await end(signal), 0, `exit status after ${signal}`);
    const socket = await bind(relayPort);
    socket.close();
  }
  demo = null;
});

/** Without one, a browser has no address of its own to show. */
function hasNetwork() {
  return Object.values(networkInterfaces()).flat().some(({ internal }) => !internal);
}

async function freePort() {
  const socket = await bind(0);
  const { port } = socket.address();
  socket.close();
  return port;
}

async function bind(port) {
  const socket = dgram.createSocket("udp4");
  socket.bind(port, "127.0.0.1");
  await once(socket, "listening");
  return socket;
}
