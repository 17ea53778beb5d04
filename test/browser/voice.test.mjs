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
  const { createSpeaker, VoiceRoom } = await import("/js/index.js");
  const socket = new Socket("/socket", {
    params: { token: user },
    reconnectAfterMs: () => 300,
    rejoinAfterMs: () => 300,
  });
  socket.connect();
  const errors = [];
  const speaker = createSpeaker({ onError: (error) => errors.push(String(error)) });
  window.voice = { user, socket, speaker, VoiceRoom, states: [], errors, connections: [], tracks: [] };
  const { getUserMedia } = MediaDevices.prototype;
  MediaDevices.prototype.getUserMedia = async function (...args) {
    const stream = await getUserMedia.apply(this, args);
    window.voice.tracks.push(...stream.getTracks());
    return stream;
  };
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
    onStream: voice.speaker.play,
    onError: (error) => voice.errors.push(String(error)),
  });
  return voice.room.join().then(() => "ok", (error) => error.reason ?? String(error));
}

async function look() {
  const { room, states, errors, connections, tracks } = window.voice;
  const usernamesOf = (pc) => pc.getConfiguration().iceServers.map(({ username }) => username).filter(Boolean);
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
    live: tracks.filter((track) => track.readyState === "live").length,
    usernames: [...new Set(connections.flatMap(usernamesOf))],
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
      const { ssrc, totalAudioEnergy: energy = 0 } = inbound(report);
      const key = `${other} ${ssrc}`;
      first[key] ??= packets;
      const pair = selectedPair(report);
      return { other, more: packets - first[key], energy, relayed: isRelayed(pair) };
    });
    const { states, errors } = seen;
    const same = ids.join() === [...others].sort().join();
    const heard = all.every(({ more, energy, relayed }) => more >= 20 && energy > 0 && relayed);
    return [same && heard, { user, ids, all, states, errors }];
  }, SOON);
}

function inbound(report) {
  return report.map(([, stats]) => stats).find(({ type }) => type === "inbound-rtp") ?? {};
}

/** Waits until the page says so: `is` gets what look() tells. */
async function sees({ page }, is, ms = SOON) {
  return eventually(async () => {
    const seen = await page.evaluate(look);
    const { reports, ...rest } = seen;
    return [is(seen), is(seen) ? seen : rest];
  }, ms);
}

/** How many times the user asked to join. */
const joins = (user, topic) =>
  phoenix.received.filter((m) => m.user === user && m.event === "phx_join" && m.topic === topic).length;

/** Members of a channel of their own, who hear each other. */
async function call(t, channel, users, times) {
  const all = await Promise.all(users.map((user) => openUser(t, user)));
  for (const user of all) assert.equal(await enter(user, channel, times), "ok");
  await allHear(all);
  return all;
}

function allHear(all) {
  const others = (user) => all.map((each) => each.user).filter((each) => each !== user);
  return Promise.all(all.map((each) => hears(each, others(each.user))));
}

test("two, then three members hear each other through the relay only", async (t) => {
  const [ann, ben, cid] = await Promise.all(["ann", "ben", "cid"].map((user) => openUser(t, user)));
  assert.equal(await enter(ann, "trio"), "ok");
  assert.equal((await ann.page.evaluate(look)).state, "connected", "alone is connected");
  assert.equal(await enter(ben, "trio"), "ok");
  await allHear([ann, ben]);
  assert.equal(await enter(cid, "trio"), "ok");
  await allHear([ann, ben, cid]);

  const offers = phoenix.received.filter(({ topic, event }) => topic === "voice:trio" && event === "sdp_offer");
  assert.equal(offers.length, 3, "one offer for each pair");
  for (const each of [ann, ben, cid]) {
    const { states, errors, open } = await each.page.evaluate(look);
    assert.deepEqual({ states, errors, open }, { states: ["connecting", "connected"], errors: [], open: 2 });
  }
});

test("who goes to another room is heard there, and no longer here", async (t) => {
  const [dan, eve] = await call(t, "here", ["dan", "eve"]);
  const fay = await openUser(t, "fay");
  assert.equal(await enter(fay, "there"), "ok");
  await eve.page.evaluate(() => window.voice.room.leave());
  assert.deepEqual(phoenix.members("voice:here"), ["dan"], "left when leave() is over");
  assert.equal(await enter(eve, "there"), "ok");
  await allHear([eve, fay]);
  await sees(dan, ({ peers, open }) => peers.length === 0 && open === 0);
});

test("a second tab is refused, once, and the first is undisturbed", async (t) => {
  const [gil, hal] = await call(t, "single", ["gil", "hal"]);
  const again = await openUser(t, "gil");
  const before = joins("gil", "voice:single");
  assert.equal(await enter(again, "single"), "already_in_channel");
  const { states, open } = await again.page.evaluate(look);
  assert.deepEqual(states, ["connecting", "disconnected: already_in_channel"]);
  assert.equal(open, 0);
  await allHear([gil, hal]); // longer than Phoenix would wait before it joined again
  assert.equal(joins("gil", "voice:single") - before, 1);
});

test("another tab takes the place over, whoever of the two calls the other", async (t) => {
  const [ida, joe] = await call(t, "takeover", ["ida", "joe"]);
  let tabs = { ida, joe };
  for (const user of ["ida", "joe"]) {
    const next = await openUser(t, user);
    assert.equal(await enter(next, "takeover"), "ok");
    const { states, open, live } = await sees(tabs[user], ({ state }) => state === "disconnected");
    assert.equal(states.at(-1), "disconnected: taken_over");
    assert.deepEqual({ open, live }, { open: 0, live: 0 });
    tabs = { ...tabs, [user]: next };
    await allHear(Object.values(tabs));
  }
});

test("after a lost socket the room joins again", async (t) => {
  const [kim, leo] = await call(t, "drop", ["kim", "leo"]);
  phoenix.cut("kim");
  await sees(kim, ({ states }) => states.length === 5);
  const { states } = await kim.page.evaluate(look);
  const expected = ["connecting", "connected", "disconnected: connection_lost", "connecting", "connected"];
  assert.deepEqual(states, expected);
  await allHear([kim, leo]);
});

test("when the server drops all, calls go on without it and are kept", async (t) => {
  const all = await call(t, "deploy", ["max", "nan"]);
  for (const { user } of all) phoenix.cut(user);
  for (const each of all) await sees(each, ({ states }) => states.length >= 5);
  await allHear(all);
  for (const { page } of all) {
    assert.equal(await page.evaluate(() => window.voice.connections.length), 1, "the same connection");
  }
});

test("a page that is reloaded is heard again", async (t) => {
  const [oda, pat] = await call(t, "reload", ["oda", "pat"]);
  for (const each of [oda, pat]) {
    await load(each.page, each.user);
    assert.equal(await enter(each, "reload"), "ok");
    await allHear([oda, pat]);
  }
});

test("credentials that expire are replaced, and ICE restarts with the new ones", async (t) => {
  ttl = 5;
  t.after(() => (ttl = 600));
  const [quy, ray] = await call(t, "short", ["quy", "ray"], { disconnectedMs: 500 });
  const old = await names(quy.user);
  const [expiry] = old[0].split(":").map(Number);
  await eventually(() => [Date.now() / 1000 > expiry, expiry], SOON);
  ttl = 600;
  for (const { user } of [quy, ray]) {
    phoenix.push("voice:short", user, "ice_servers", await relay.mint(user, ttl));
  }
  const applied = await sees(quy, ({ usernames }) => usernames.length === 1 && !old.includes(usernames[0]));
  assert.deepEqual(await names(quy.user), old, "what works is left alone");

  // The old credentials are good for no allocation any more: the new ones make the next.
  await relay.kill("quy");
  await eventually(async () => {
    const now = await names(quy.user);
    return [now.length === 1 && now[0] === applied.usernames[0], { now, applied: applied.usernames }];
  }, SOON);
  await allHear([quy, ray]);
});

test("a relay that was gone for a moment is found again", async (t) => {
  const all = await call(t, "crash", ["sam", "tea"], { disconnectedMs: 500, retryMs: 1_000 });
  process.kill(relay.pid, "SIGKILL");
  await sees(all[0], ({ peers }) => peers[0].state === "connecting");
  await allHear(all);
});

test("all of them kept to the channel's contract, and no page had an error", () => {
  assert.ok(phoenix.received.length > 0);
  assert.deepEqual(phoenix.violations, []);
});

/** The usernames of a user's allocations. */
async function names(user) {
  const all = (await relay.list()).map(({ username }) => username).filter((name) => name.endsWith(`:${user}`));
  return [...new Set(all)];
}
