/** What Node.js lacks of a browser, and a server for rooms: as strict as the real ones. */

/** Lets everything that is under way, but no timer, come to its end. */
export async function settled() {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
}

const REAL = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };

/** Timers that go by `tick(ms)` alone, till the test ends. Each tick lets what it started settle. */
export function fakeTime(t) {
  const timers = new Map();
  let [now, last] = [0, 0];
  globalThis.setTimeout = (take, ms = 0) => {
    last += 1;
    timers.set(last, { take, at: now + ms });
    return last;
  };
  globalThis.clearTimeout = (id) => timers.delete(id);
  t.after(() => Object.assign(globalThis, REAL));

  const next = (end) => [...timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
  return {
    timers,
    async tick(ms) {
      const end = now + ms;
      for (let due = next(end); due; due = next(end)) {
        const [id, { take, at }] = due;
        timers.delete(id);
        now = at;
        take();
        await settled();
      }
      now = end;
      await settled();
    },
  };
}

export class FakeTrack extends EventTarget {
  readyState = "live";
  enabled = true;
  kind = "audio";
  stop() {
    this.readyState = "ended";
  }
}

export class FakeStream {
  constructor(tracks = [new FakeTrack()]) {
    this.tracks = tracks;
  }
  getTracks() {
    return this.tracks;
  }
  getAudioTracks() {
    return this.tracks;
  }
}

/** The peers' way to each other: those whose descriptions are each other's connect. */
export class FakeNetwork {
  connections = [];
  up = true;
  /** The class to give as RTCPeerConnection. */
  get RTCPeerConnection() {
    const network = this;
    return class extends FakePeerConnection {
      constructor(configuration) {
        super(network, configuration);
        network.connections.push(this);
      }
    };
  }

  get open() {
    return this.connections.filter((pc) => pc.signalingState !== "closed");
  }

  check() {
    for (const pc of this.open) {
      if (pc.connectionState === "connected" || pc.connectionState === "failed") continue;
      const other = this.open.find((each) => pc.isWith(each) && each.isWith(pc));
      if (other && this.up) [pc, other].forEach((each) => each.become("connected"));
    }
  }

  /** Breaks what is connected, as a relay that ends does. */
  break(state = "failed") {
    for (const pc of this.open) if (pc.connectionState === "connected") pc.become(state);
  }
}

/** An RTCPeerConnection with one audio transceiver at most, and no sound. */
class FakePeerConnection extends EventTarget {
  static sessions = 1000;
  signalingState = "stable";
  connectionState = "new";
  localDescription = null;
  remoteDescription = null;
  candidates = [];
  restarts = 0;
  stats = new Map();
  #network;
  #configuration;
  #session = String((FakePeerConnection.sessions += 1));
  #version = 0;
  #generation = 0;
  #before = null;
  #transceiver = null;
  #received = false;
  #needed = false;
  #restart = false;

  constructor(network, configuration) {
    super();
    this.#network = network;
    this.#configuration = configuration;
  }

  getConfiguration() {
    return this.#configuration;
  }

  setConfiguration(configuration) {
    this.#assertOpen();
    this.#configuration = configuration;
  }

  getTransceivers() {
    return this.#transceiver ? [this.#transceiver] : [];
  }

  getReceivers() {
    return this.getTransceivers().map(({ receiver }) => receiver);
  }

  addTrack(track) {
    this.#assertOpen();
    if (!this.#transceiver) this.addTransceiver("audio");
    if (this.#transceiver.sender.track) throw new Error("InvalidAccessError: track added twice");
    this.#transceiver.sender.track = track;
  }

  addTransceiver() {
    this.#assertOpen();
    const transport = Object.assign(new EventTarget(), { state: "connected", onstatechange: null });
    this.#transceiver = { sender: { track: null, transport }, receiver: { track: new FakeTrack() } };
    this.#need();
  }

  restartIce() {
    this.#assertOpen();
    this.restarts += 1;
    this.#restart = true;
    this.#need();
  }

  async setLocalDescription() {
    this.#assertOpen();
    const answer = this.signalingState === "have-remote-offer";
    if (!answer && this.signalingState !== "stable") throw new Error("InvalidStateError: local");
    await undefined;
    this.#assertOpen();
    this.#before = { local: this.localDescription, remote: this.remoteDescription };
    if (this.#restart || this.#generation === 0) this.#generation += 1;
    this.#restart = this.#needed = false;
    this.localDescription = this.#describe(answer ? "answer" : "offer");
    this.signalingState = answer ? "stable" : "have-local-offer";
    this.#gather();
    if (answer) this.#done();
  }

  async setRemoteDescription({ type, sdp }) {
    this.#assertOpen();
    if (!/^v=0/.test(sdp)) throw new Error("OperationError: not SDP");
    const glare = this.signalingState === "have-local-offer" && type === "offer";
    const wanted = type === "offer" ? ["stable", "have-local-offer"] : ["have-local-offer"];
    if (!wanted.includes(this.signalingState)) throw new Error(`InvalidStateError: ${type}`);
    const session = /^o=- (\d+)/m.exec(sdp)[1];
    const known = this.remoteDescription && /^o=- (\d+)/m.exec(this.remoteDescription.sdp)[1];
    if (known && known !== session) throw new Error("OperationError: another DTLS fingerprint");
    await undefined;
    this.#assertOpen();
    if (glare) this.localDescription = this.#before.local;
    const restart = this.remoteDescription && fragment(this.remoteDescription.sdp) !== fragment(sdp);
    if (type === "offer" && restart) this.#restart = true;
    this.remoteDescription = { type, sdp };
    this.signalingState = type === "offer" ? "have-remote-offer" : "stable";
    if (!this.#received) this.#receive();
    if (type === "answer") this.#done();
  }

  async addIceCandidate(candidate) {
    this.#assertOpen();
    if (!this.remoteDescription) throw new Error("InvalidStateError: no remote description");
    const { usernameFragment } = candidate;
    if (usernameFragment && usernameFragment !== fragment(this.remoteDescription.sdp)) {
      throw new Error("OperationError: another generation");
    }
    this.candidates.push(candidate);
  }

  async getStats() {
    return this.stats;
  }

  close() {
    if (this.signalingState === "closed") return;
    const connected = this.connectionState === "connected";
    const other = this.#network.open.find((each) => this.isWith(each) && each.isWith(this));
    this.signalingState = "closed";
    this.connectionState = "closed";
    if (connected) setImmediate(() => other?.endTransport());
  }

  // ---- for the network and the tests ----

  isWith(other) {
    if (this.signalingState !== "stable" || !this.remoteDescription) return false;
    const lines = (sdp) => [/^o=- (\d+)/m.exec(sdp)?.[1], fragment(sdp)].join();
    return lines(this.remoteDescription.sdp) === lines(other.localDescription?.sdp ?? "");
  }

  become(state) {
    if (this.connectionState === state) return;
    this.connectionState = state;
    this.dispatchEvent(new Event("connectionstatechange"));
  }

  /** The peer's end says that it goes. */
  endTransport() {
    if (this.signalingState === "closed") return;
    const { transport } = this.#transceiver.sender;
    transport.state = "closed";
    transport.onstatechange?.(new Event("statechange"));
  }

  #receive() {
    this.#received = true;
    if (!this.#transceiver) {
      this.addTransceiver("audio");
      this.#needed = false;
    }
    const { track } = this.#transceiver.receiver;
    this.dispatchEvent(Object.assign(new Event("track"), { track, streams: [new FakeStream([track])] }));
  }

  #done() {
    if (this.#needed || this.#restart) this.#need();
    if (this.#restart === false && this.connectionState !== "connected") this.connectionState = "connecting";
    this.#network.check();
  }

  #need() {
    this.#needed = true;
    queueMicrotask(() => {
      if (!this.#needed || this.signalingState !== "stable") return;
      this.dispatchEvent(new Event("negotiationneeded"));
    });
  }

  #gather() {
    const usernameFragment = fragment(this.localDescription.sdp);
    const candidate = `candidate:1 1 udp 1 192.0.2.1 ${this.#session} typ relay`;
    for (const found of [{ candidate, sdpMid: "0", sdpMLineIndex: 0, usernameFragment }, null]) {
      this.dispatchEvent(Object.assign(new Event("icecandidate"), { candidate: found }));
    }
  }

  #describe(type) {
    this.#version += 1;
    const ufrag = `u${this.#session}g${this.#generation}`;
    const sdp = [
      "v=0", `o=- ${this.#session} ${this.#version} IN IP4 127.0.0.1`, "s=-", "t=0 0",
      "m=audio 9 UDP/TLS/RTP/SAVPF 111", `a=ice-ufrag:${ufrag}`, "a=mid:0", "",
    ];
    return { type, sdp: sdp.join("\r\n") };
  }

  #assertOpen() {
    if (this.signalingState === "closed") throw new Error("InvalidStateError: closed");
  }
}

function fragment(sdp) {
  return /^a=ice-ufrag:(\S+)/m.exec(sdp)?.[1];
}

/** A server's voice channels; messages arrive later, in order. */
export class FakeServer {
  topics = new Map();
  refusal = null;
  silent = false;
  iceServers = [];
  log = [];
  #refs = 0;

  socket(user) {
    return new FakeSocket(this, user);
  }

  members(topic) {
    return [...(this.topics.get(topic)?.keys() ?? [])];
  }

  push(topic, user, event, payload) {
    this.topics.get(topic).get(user).deliver(event, payload);
  }

  join(channel) {
    this.log.push(`${channel.socket.user} joins ${channel.topic}`);
    if (this.silent) return;
    if (this.refusal) return channel.answer("error", { reason: this.refusal });
    const users = this.topics.get(channel.topic) ?? new Map();
    this.topics.set(channel.topic, users);
    const { user } = channel.socket;
    channel.meta = { phx_ref: `F${(this.#refs += 1)}`, user_id: user, muted: false };
    this.broadcast(channel, "peer_joined", { user_id: user });
    this.broadcast(channel, "presence_diff", { joins: { [user]: { metas: [channel.meta] } }, leaves: {} });
    users.set(user, channel);
    channel.served = true;
    channel.answer("ok", { ice_servers: this.iceServers, user_id: user, expires_at: 1 });
    const state = [...users].map(([id, each]) => [id, { metas: [each.meta] }]);
    channel.deliver("presence_state", Object.fromEntries(state));
  }

  free(channel) {
    channel.served = false;
    const users = this.topics.get(channel.topic);
    if (users?.get(channel.socket.user) !== channel) return;
    const { user } = channel.socket;
    this.log.push(`${user} leaves ${channel.topic}`);
    users.delete(user);
    this.broadcast(channel, "peer_left", { user_id: user });
    this.broadcast(channel, "presence_diff", { joins: {}, leaves: { [user]: { metas: [channel.meta] } } });
  }

  take(channel, event, payload) {
    const { user } = channel.socket;
    const signals = ["sdp_offer", "sdp_answer", "ice_candidate"];
    this.log.push(`${user} ${event}`);
    if (signals.includes(event)) this.broadcast(channel, event, { from: user, ...payload });
    else this.broadcast(channel, event, { user_id: user, ...payload });
  }

  broadcast(from, event, payload) {
    for (const channel of this.topics.get(from.topic)?.values() ?? []) {
      if (channel !== from) channel.deliver(event, payload);
    }
  }
}

export class FakeSocket {
  channels = [];
  listeners = { open: [], close: [], message: [] };
  connected = true;
  #refs = 0;

  constructor(server, user) {
    this.server = server;
    this.user = user;
  }

  isConnected() {
    return this.connected;
  }

  connect() {
    this.connected = true;
    this.emit("open");
  }

  disconnect() {
    this.drop();
  }

  channel(topic) {
    const channel = new FakeChannel(this, topic);
    this.channels.push(channel);
    return channel;
  }

  onOpen(take) {
    return this.#listen("open", take);
  }

  onClose(take) {
    return this.#listen("close", take);
  }

  onMessage(take) {
    return this.#listen("message", take);
  }

  off(refs) {
    for (const kind of Object.keys(this.listeners)) {
      this.listeners[kind] = this.listeners[kind].filter(([ref]) => !refs.includes(ref));
    }
  }

  get listening() {
    return Object.values(this.listeners).flat().length;
  }

  /** The network goes; `back()` brings it again, as Phoenix does by itself. */
  drop() {
    if (!this.connected) return;
    this.connected = false;
    for (const channel of this.channels) this.server.free(channel);
    this.emit("close");
    for (const channel of [...this.channels]) channel.fail();
  }

  back() {
    this.connected = true;
    for (const channel of this.channels) if (channel.state === "errored") channel.rejoin();
    this.emit("open");
  }

  makeRef() {
    return String((this.#refs += 1));
  }

  emit(kind, value) {
    for (const [, take] of [...this.listeners[kind]]) take(value);
  }

  #listen(kind, take) {
    const ref = this.makeRef();
    this.listeners[kind].push([ref, take]);
    return ref;
  }
}

class FakePush {
  hooks = [];
  constructor(ref) {
    this.ref = ref;
  }
  receive(status, take) {
    this.hooks.push([status, take]);
    return this;
  }
  settle(status, response) {
    for (const [wanted, take] of this.hooks) if (wanted === status) take(response);
  }
}

class FakeChannel {
  state = "closed";
  served = false; // has a process at the server
  bindings = [];

  constructor(socket, topic) {
    this.socket = socket;
    this.topic = topic;
  }

  on(event, take) {
    this.bindings.push([event, take]);
  }

  onError(take) {
    this.on("phx_error", take);
  }

  onClose(take) {
    this.on("phx_close", take);
  }

  join() {
    if (this.joinPush) throw new Error("tried to join multiple times");
    this.joinPush = new FakePush(null);
    this.rejoin();
    return this.joinPush;
  }

  rejoin() {
    this.state = "joining";
    this.joinPush.ref = this.socket.makeRef();
    setImmediate(() => this.socket.server.join(this));
  }

  answer(status, response) {
    const { ref } = this.joinPush;
    setImmediate(() => {
      this.#message("phx_reply", { status, response }, ref);
      if (this.state !== "joining") return;
      this.state = status === "ok" ? "joined" : "errored";
      this.joinPush.settle(status, response);
      // Phoenix would try again soon.
      if (this.state === "errored") this.retrying = true;
    });
  }

  /** The join's answer has not come in time. */
  timeOut() {
    this.state = "errored";
    this.retrying = true;
    this.joinPush.settle("timeout", {});
  }

  push(event, payload) {
    if (!this.joinPush) throw new Error(`tried to push '${event}' before joining`);
    const text = JSON.stringify(payload);
    setImmediate(() => this.socket.server.take(this, event, JSON.parse(text)));
    return new FakePush(this.socket.makeRef());
  }

  // As Phoenix's: it is over for the client at once, for the server later.
  leave() {
    this.retrying = false;
    const push = new FakePush(this.socket.makeRef());
    const { connected, server } = this.socket;
    const joinRef = this.joinPush?.ref;
    this.state = "closed";
    this.#remove();
    if (connected) {
      setImmediate(() => {
        const member = this.served;
        server.free(this);
        this.#message("phx_reply", { status: "ok", response: {} }, push.ref);
        if (member) this.#message("phx_close", {}, joinRef);
      });
    }
    this.#trigger("phx_close", "leave");
    return push;
  }

  /** The server closes the channel. */
  close() {
    this.socket.server.free(this);
    this.state = "closed";
    this.#remove();
    this.#trigger("phx_close", {});
  }

  /** The channel is lost: its process crashed, or the socket is gone. */
  fail() {
    this.socket.server.free(this);
    this.state = "errored";
    this.#trigger("phx_error", undefined);
  }

  deliver(event, payload) {
    setImmediate(() => {
      this.#message(event, payload, null);
      if (this.state === "joined") this.#trigger(event, payload);
    });
  }

  #remove() {
    this.socket.channels = this.socket.channels.filter((each) => each !== this);
  }

  #message(event, payload, ref) {
    this.socket.emit("message", { topic: this.topic, event, payload, ref, join_ref: this.joinPush?.ref });
  }

  #trigger(event, payload) {
    for (const [wanted, take] of this.bindings) if (wanted === event) take(payload);
  }
}
