// A relay at a port, two browsers, and a call between them by relayed candidates only:
//     node switch_call.mjs PORT [RELAY-OPTION=VALUE...]
// The last line of standard output is what came of it, as JSON.
import { readdirSync, readlinkSync } from "node:fs";
import { launchBrowser, startServer } from "./support.mjs";

const [port, ...options] = process.argv.slice(2);
const PATIENCE = options.includes("pair=false") ? 5_000 : 20_000; // a call that cannot be is not waited for

/** What a relay's process has of sockets. */
function sockets(pid) {
  const dir = `/proc/${pid}/fd`;
  return readdirSync(dir).filter((fd) => {
    try {
      return readlinkSync(`${dir}/${fd}`).startsWith("socket:");
    } catch {
      return false; // closed meanwhile
    }
  }).length;
}

// ---- what runs in the pages ----

async function prepare() {
  const iceServers = await (await fetch("/ice_servers.json")).json();
  const pc = new RTCPeerConnection({ iceServers, iceTransportPolicy: "relay" });
  const channel = pc.createDataChannel("call", { negotiated: true, id: 0 });
  const got = new Promise((resolve) => {
    channel.addEventListener("message", ({ data }) => resolve(data));
  });
  window.test = { pc, channel, got };
}

/** Sets what the other end said, if it has, and answers as soon as there is an address to be reached at. */
async function describe(remote) {
  const { pc } = window.test;
  const reachable = new Promise((resolve) => {
    pc.addEventListener("icecandidate", ({ candidate }) => candidate && resolve());
  });
  if (remote) await pc.setRemoteDescription(remote);
  await pc.setLocalDescription();
  await reachable;
  return pc.localDescription.toJSON();
}

function accept(remote) {
  return window.test.pc.setRemoteDescription(remote);
}

/** Whether the channel opened in time. */
function opened(ms) {
  const { channel } = window.test;
  if (channel.readyState === "open") return true;
  return Promise.race([
    new Promise((resolve) => {
      channel.addEventListener("open", () => resolve(true), { once: true });
    }),
    new Promise((resolve) => {
      setTimeout(() => resolve(false), ms);
    }),
  ]);
}

async function talk(text) {
  const { pc, channel, got } = window.test;
  channel.send(text);
  const data = await got;
  const { selectedPair } = await import("/js/stats.js");
  let pair = null;
  while (!pair) pair = selectedPair(await pc.getStats()); // soon after the channel has opened
  const types = [pair.local.type, pair.remote.type];
  return { data, types };
}

// ---- the call ----

const server = await startServer(`listen=udp:127.0.0.1:${port}`, ...options);
const browsers = await Promise.all([launchBrowser(), launchBrowser()]);
try {
  const before = sockets(server.pid);
  const pages = await Promise.all(browsers.map((browser) => browser.newPage()));
  await Promise.all(pages.map((page) => page.goto(server.url)));
  await Promise.all(pages.map((page) => page.evaluate(prepare)));
  const offer = await pages[0].evaluate(describe, null);
  const answer = await pages[1].evaluate(describe, offer);
  await pages[0].evaluate(accept, answer);
  const open = await Promise.all(pages.map((page) => page.evaluate(opened, PATIENCE)));
  const connected = open.every(Boolean);
  const results = connected ? await Promise.all(pages.map((page, i) => page.evaluate(talk, `from ${i}`))) : [];
  const { counters } = await server.stats();
  console.log(JSON.stringify({
    connected,
    types: results.map(({ types }) => types),
    got: results.map(({ data }) => data),
    counters,
    sockets: { before, during: sockets(server.pid) },
  }));
} finally {
  await Promise.all(browsers.map((browser) => browser.close()));
  await server.stop();
}
