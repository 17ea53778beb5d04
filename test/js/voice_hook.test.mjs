import assert from "node:assert/strict";
import { test } from "node:test";
import { createVoiceHook } from "../../assets/js/voice_hook.js";
import { FakeNetwork, FakeServer, FakeStream, settled } from "./fakes.mjs";

/** A page with the hook mounted as LiveView does it: the functions are copied to each element's object. */
function page({ server = new FakeServer(), network = new FakeNetwork(), ...options } = {}) {
  const sockets = [];
  const streams = [];
  const createSocket = (token) => {
    sockets.push(Object.assign(server.socket("ann"), { token, connected: false }));
    return sockets.at(-1);
  };
  const getUserMedia = async () => {
    streams.push(new FakeStream());
    return streams.at(-1);
  };
  const room = { RTCPeerConnection: network.RTCPeerConnection, getUserMedia, ...options.room };
  const hook = createVoiceHook({ createSocket, ...options, room });
  const mount = () => {
    const handlers = {};
    const pushed = [];
    const view = {
      ...hook,
      handleEvent: (event, take) => (handlers[event] = take),
      pushEvent: (event, payload) => pushed.push([event, payload]),
    };
    view.mounted();
    const send = async (event, payload = {}) => {
      handlers[event](payload);
      await settled();
    };
    const states = () => pushed.map(([, { state, reason }]) => (reason ? `${state}: ${reason}` : state));
    return { view, send, pushed, states };
  };
  const live = () => streams.flatMap((s) => s.tracks).filter((t) => t.readyState === "live").length;
  return { server, network, sockets, streams, live, mount };
}

const joining = (channel, more = {}) => ({
  channel_id: channel, user_id: "ann", user_token: "token", ice_servers: [{ urls: "stun:stun.example" }], ...more,
});

test("needs a way to the server", () => {
  assert.throws(() => createVoiceHook(), TypeError);
  assert.throws(() => createVoiceHook({}), /createSocket/);
});

test("join and leave, as LiveView says; the state goes back under its name", async () => {
  const { server, network, sockets, live, mount } = page();
  const { view, send, pushed, states } = mount();
  await send("voice:join", joining("7"));
  assert.deepEqual(pushed, [["voice_state_changed", { state: "connected", channel_id: "7" }]]);
  assert.deepEqual(server.members("voice:7"), ["ann"]);
  assert.equal(sockets[0].token, "token");
  assert.equal(view.voice.room.iceServers.length, 0, "the join's reply has the last word");

  await send("voice:leave");
  assert.deepEqual(states(), ["connected"], "LiveView knows what it asked for");
  assert.deepEqual(server.members("voice:7"), []);
  assert.deepEqual([sockets[0].connected, live(), network.open.length], [false, 0, 0]);
});

test("to another channel: left before joined; fast through three: only the last", async () => {
  const { server, live, mount } = page();
  const { send, states } = mount();
  await send("voice:join", joining("1"));
  await send("voice:join", joining("2"));
  assert.deepEqual(server.log, ["ann joins voice:1", "ann leaves voice:1", "ann joins voice:2"]);
  assert.deepEqual(states(), ["connected", "connected"]);

  send("voice:join", joining("3"));
  send("voice:join", joining("4"));
  await send("voice:join", joining("5"));
  assert.deepEqual(server.log.slice(3), ["ann leaves voice:2", "ann joins voice:5"]);
  assert.deepEqual(states(), ["connected", "connected", "connected"]);
  assert.equal(live(), 1);

  send("voice:join", joining("6"));
  await send("voice:leave");
  assert.deepEqual(server.log.slice(5), ["ann leaves voice:5"]);
  assert.equal(live(), 0);
});

test("the same channel again: told, not joined", async () => {
  const { server, mount } = page();
  const { view, send, states } = mount();
  await send("voice:join", joining("1"));
  const fresh = [{ urls: "stun:other.example" }];
  await send("voice:join", joining("1", { ice_servers: fresh }));
  assert.deepEqual(server.log, ["ann joins voice:1"]);
  assert.deepEqual(states(), ["connected", "connected"]);
  assert.deepEqual(view.voice.room.iceServers, fresh);
});

test("refused: told with the reason, and the next attempt is made", async () => {
  const { server, live, mount } = page({ onError: () => undefined });
  const { send, states } = mount();
  server.refusal = "already_in_channel";
  await send("voice:join", joining("1"));
  assert.deepEqual(states(), ["disconnected: already_in_channel"]);
  assert.equal(live(), 0);
  server.refusal = null;
  await send("voice:join", joining("1"));
  assert.deepEqual(states(), ["disconnected: already_in_channel", "connected"]);
});

test("connecting is told to those who want it", async () => {
  const { mount } = page({ pushConnecting: true });
  const { send, states } = mount();
  await send("voice:join", joining("1"));
  assert.deepEqual(states(), ["connecting", "connected"]);
});

test("a lost socket and a taken place are told", async () => {
  const { server, sockets, mount } = page();
  const { send, states } = mount();
  await send("voice:join", joining("1"));
  sockets[0].drop();
  sockets[0].back();
  await settled();
  server.push("voice:1", "ann", "taken_over", {});
  await settled();
  assert.deepEqual(states(), [
    "connected", "disconnected: connection_lost", "connected", "disconnected: taken_over",
  ]);
});

test("the element goes: left, and nobody is told any more", async () => {
  const { server, sockets, live, mount } = page();
  const { view, send, states } = mount();
  await send("voice:join", joining("1"));
  view.destroyed();
  await settled();
  assert.deepEqual(server.members("voice:1"), []);
  assert.deepEqual([states(), sockets[0].connected, sockets[0].listening, live()], [["connected"], false, 0, 0]);
});

test("LiveView goes and comes: the call stays, and the new process is told", async () => {
  const { server, mount } = page();
  const { view, send, states } = mount();
  view.reconnected();
  assert.deepEqual(states(), [], "nothing to tell");
  await send("voice:join", joining("1"));
  view.reconnected();
  assert.deepEqual(states(), ["connected", "connected"]);
  assert.deepEqual(server.log, ["ann joins voice:1"]);
});

test("a LiveView that cannot be told is no reason to fail", async () => {
  for (const pushEvent of [() => { throw new Error("disconnected"); }, () => Promise.reject(new Error("no")), () => false]) {
    const { server, mount } = page();
    const { view, send } = mount();
    view.pushEvent = pushEvent;
    await send("voice:join", joining("1"));
    assert.deepEqual(server.members("voice:1"), ["ann"]);
  }
});

test("mute and deafen, before and in a call, and in the next one too", async () => {
  const { server, streams, mount } = page();
  const { view, send } = mount();
  await send("voice:set_mute", { muted: true });
  await send("voice:join", joining("1"));
  assert.equal(streams[0].tracks[0].enabled, false);
  await send("voice:set_deafen", { deafened: true, muted: true });
  await send("voice:join", joining("2"));
  assert.deepEqual([view.voice.room.muted, view.voice.room.deafened], [true, true]);
  await send("voice:set_deafen", { deafened: false, muted: false });
  assert.equal(streams[1].tracks[0].enabled, true);
  assert.deepEqual(server.log.filter((line) => line.includes("toggle")), [
    "ann toggle_mute", "ann toggle_deafen", "ann toggle_mute", // in the first
    "ann toggle_mute", "ann toggle_deafen", "ann toggle_deafen", "ann toggle_mute",
  ]);
});

test("a socket of the app's is used, and left as it is", async () => {
  const server = new FakeServer();
  const socket = server.socket("ann");
  const { mount, sockets } = page({ server, socket });
  const { send } = mount();
  await send("voice:join", joining("1"));
  assert.deepEqual(server.members("voice:1"), ["ann"]);
  await send("voice:leave");
  assert.deepEqual([socket.connected, sockets.length, socket.listening], [true, 0, 0]);
});

test("a new token brings a new socket, and the old one is closed", async () => {
  const { server, sockets, mount } = page();
  const { send } = mount();
  await send("voice:join", joining("1"));
  await send("voice:join", joining("2", { user_token: "newer" }));
  assert.deepEqual(sockets.map(({ token, connected }) => [token, connected]), [["token", false], ["newer", true]]);
  assert.deepEqual(server.members("voice:2"), ["ann"]);
});

test("no socket to be had: told, and tried again the next time", async () => {
  const errors = [];
  let broken = true;
  const server = new FakeServer();
  const createSocket = () => {
    if (broken) throw new Error("no socket");
    return server.socket("ann");
  };
  const { mount } = page({ server, createSocket, onError: ({ message }) => errors.push(message) });
  const { send, states } = mount();
  await send("voice:join", joining("1"));
  assert.deepEqual([states(), errors], [["disconnected: failed"], ["no socket"]]);
  broken = false;
  await send("voice:join", joining("1"));
  assert.equal(states().at(-1), "connected");
});

test("two elements have a call each", async () => {
  const { server, mount } = page();
  const [one, two] = [mount(), mount()];
  await one.send("voice:join", joining("1"));
  await two.send("voice:join", joining("2"));
  await one.send("voice:leave");
  assert.deepEqual([server.members("voice:1"), server.members("voice:2")], [[], ["ann"]]);
});
