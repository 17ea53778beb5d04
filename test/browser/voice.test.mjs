import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { audioReceived, isRelayed, selectedPair } from "../../assets/js/stats.js";
import { PhoenixServer } from "./phoenix_server.mjs";
import { eventually, launchBrowser, startServer } from "./support.mjs";

const MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];
const SOON = 20_000;

let relay;
let browser;
let phoenix;
let url;
let ttl = 600;

before(async () => {
  [relay, browser] = await Promise.all([startServer(), launchBrowser(...MICROPHONE)]);
  phoenix = new PhoenixServer({
    iceServers: (user) => relay.mint(user, ttl),
    files: {
      "/js/": new URL("../../assets/js/", import.meta.url),
      "/phoenix/": new URL("node_modules/phoenix/priv/static/", import.meta.url),
    },
  });
  url = await phoenix.start();
});

after(async () => {
  await browser?.close();
  await phoenix?.stop();
  await relay?.stop();
});

/** A user's page; `call()` runs a function in it with `window.voice`. */
async function openUser(t, user) {
  const page = await browser.newPage();
  page.on("pageerror", (error) => phoenix.violations.push({ user, error: String(error) }));
  page.on("console", (message) => process.env.VERBOSE && console.log(user, message.text()));
  t.after(() => page.close());
  await load(page, user);
  return { page, user };
}

async function load(page, user) {
  await page.goto(url);
  await page.evaluate(prepare, user);
}

// ---- what runs in the page; it keeps its state in `window.voice` ----

async function prepare(user) {
  const { Socket } = await import("/phoenix/phoenix.mjs");
  const { VoiceRoom } = await import("/js/voice_room.js");
  const socket = new Socket("/socket", {
    params: { token: user },
    reconnectAfterMs: () => 300,
    rejoinAfterMs: () => 300,
  });
  socket.connect();
  window.voice = { user, socket, VoiceRoom, states: [], streams: {}, errors: [], connections: [] };
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...args) {
      super(...args);
      window.voice.connections.push(this);
    }
  };
}

async function join({ channel, times }) {
  const { voice } = window;
  voice.room = new voice.VoiceRoom(channel, voice.user, voice.socket, null, {
    iceTransportPolicy: "relay",
    times,
    onState: (state, { reason = null }) => voice.states.push(reason ? `${state}: ${reason}` : state),
    onStream: (user, stream) => (voice.streams[user] = stream),
    onError: (error) => voice.errors.push(String(error)),
  });
  return voice.room.join().then(() => "ok", (error) => error.reason ?? String(error));
}

async function look() {
  const { room, states, errors, connections } = window.voice;
  const reports = room.peers.map(async ({ userId }) => {
    const pc = room.connection(userId);
    return [userId, { report: pc ? [...(await pc.getStats())] : [], state: pc?.connectionState }];
  });
  return {
    state: room.state,
    peers: room.peers,
    states,
    errors,
    reports: Object.fromEntries(await Promise.all(reports)),
    open: connections.filter((pc) => pc.connectionState !== "closed").length,
  };
}

const enter = ({ page }, channel, times = {}) => page.evaluate(join, { channel, times });

/** Waits until the user hears all these others, through the relay only: packets of sound arrive. */
async function hears({ page, user }, others) {
  const first = {};
  return eventually(async () => {
    const seen = await page.evaluate(look);
    const ids = seen.peers.map(({ userId }) => userId).sort();
    const all = others.map((other) => {
      const { report = [] } = seen.reports[other] ?? {};
      const { packets } = audioReceived(report);
      const energy = report.map(([, s]) => s.totalAudioEnergy ?? 0).reduce((a, b) => a + b, 0);
      const key = `${other} ${inbound(report)}`;
      first[key] ??= packets;
      const pair = selectedPair(report);
      return { other, more: packets - first[key], energy, relayed: isRelayed(pair) };
    });
    const same = ids.join() === [...others].sort().join();
    return [same && all.every((o) => o.more >= 20 && o.energy > 0 && o.relayed), { user, ids, all, states: seen.states, errors: seen.errors }];
  }, SOON);
}

function inbound(report) {
  return report.map(([, s]) => s).find((s) => s.type === "inbound-rtp")?.ssrc;
}

test("two, then three members hear each other through the relay only", async (t) => {
  const [ann, ben, cid] = [await openUser(t, "ann"), await openUser(t, "ben"), await openUser(t, "cid")];
  assert.equal(await enter(ann, "trio"), "ok");
  assert.equal((await ann.page.evaluate(look)).state, "connected", "alone is connected");
  assert.equal(await enter(ben, "trio"), "ok");
  await Promise.all([hears(ann, ["ben"]), hears(ben, ["ann"])]);
  assert.equal(await enter(cid, "trio"), "ok");
  await Promise.all([hears(ann, ["ben", "cid"]), hears(ben, ["ann", "cid"]), hears(cid, ["ann", "ben"])]);
  console.log(JSON.stringify(phoenix.violations), JSON.stringify(phoenix.received.map(m => [m.user, m.event, m.payload.to])));
});
