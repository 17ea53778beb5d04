import { checkIceServers } from "./ice_servers.js";
import { Members } from "./members.js";
import { Microphone } from "./microphone.js";
import { watchNetwork } from "./network.js";
import { readCandidate, readDescription, readId, readTalking, readUser } from "./signal.js";
import { VoiceChannel } from "./voice_channel.js";
import { VoiceError } from "./voice_error.js";
import { VoicePeer } from "./voice_peer.js";

const GRACE_MS = 10_000; // for members that lost the server as well and are not back yet

/**
 * @typedef {object} Member
 * @property {string} userId
 * @property {"connecting"|"connected"|"disconnected"} state of the connection with this member;
 *   disconnected: given up, until the network changes or the member tries
 * @property {boolean} talking
 * @property {boolean} muted
 * @property {boolean} deafened
 */

/**
 * @typedef {object} VoiceOptions
 * @property {(state: "connecting"|"connected"|"disconnected", detail: {reason?: string,
 *   userId?: string}) => void} [onState] `reason` of "disconnected": as of VoiceError, or "closed"
 *   (by the server), "taken_over" (by another tab), "connection_lost" (the server is out of reach;
 *   comes back by itself), "peer_failed" (no path to `userId`), "left"
 * @property {(members: Member[]) => void} [onPeers] the others, whenever something changed
 * @property {(userId: string, stream: MediaStream|null) => void} [onStream] what to play; null when
 *   it is over
 * @property {(userId: string, active: boolean) => void} [onTalking] push to talk of the others
 * @property {(error: Error) => void} [onError] what went wrong without ending anything; with the
 *   reason "microphone_lost", the microphone was unplugged
 * @property {(constraints: MediaStreamConstraints) => Promise<MediaStream|null>} [getUserMedia]
 *   instead of the browser's; null: listen only
 * @property {string|null} [deviceId] of the microphone
 * @property {"voice"|"ptt"} [mode] with "ptt" one is heard while talking only
 * @property {RTCIceTransportPolicy} [iceTransportPolicy] "relay": through relays only
 * @property {typeof RTCPeerConnection} [RTCPeerConnection] instead of the browser's
 * @property {object} [times] milliseconds, mostly for tests; see recovery.js and voice_peer.js
 */

/**
 * One's place in a voice channel: joins "voice:<channelId>", talks to every other member directly,
 * one RTCPeerConnection each, and keeps that up. A room is joined once; to come back, make another.
 *
 *     const room = new VoiceRoom(channelId, userId, socket, null, { onState, onStream });
 *     await room.join();
 *     room.setMuted(true);
 *     await room.leave();
 */
export class VoiceRoom {
  #userId;
  #options;
  #servers = [];
  #turnUrls = [];
  #channel;
  #microphone;
  #members = null;
  /** @type {Map<string, VoicePeer>} */
  #peers = new Map();
  #phase = "new"; // joining | joined | lost | ended
  #shown = { state: null, reason: undefined };
  #deafened = false;
  #talking = false;
  #stops = [];
  /** Not, or not yet, members, but kept for a while: user id -> timer */
  #tolerated = new Map();

  /**
   * @param {string|number} channelId
   * @param {string|number} userId one's own; the server's reply to the join has the last word
   * @param {object} socket a Phoenix Socket; connecting and disconnecting it is the caller's part
   * @param {RTCIceServer[]|null} [iceServers] until the server gives others
   * @param {VoiceOptions} [options]
   */
  constructor(channelId, userId, socket, iceServers = null, options = {}) {
    this.channelId = String(channelId);
    this.#userId = String(userId);
    this.#options = options;
    const onLost = () => this.#report(new VoiceError("microphone_lost"));
    this.#microphone = new Microphone({ ...options, onLost });
    if (iceServers !== null) this.#keepServers(iceServers);
    this.#channel = new VoiceChannel(socket, `voice:${this.channelId}`, this.#events(), {
      onJoined: (reply) => this.#entered(reply),
      onLost: () => this.#lost(),
      onRejoining: () => this.#show("connecting"),
      onEnded: (reason) => this.#end(reason),
      onError: (error) => this.#report(error),
    });
  }

  get userId() {
    return this.#userId;
  }

  /** @type {"connecting"|"connected"|"disconnected"|null} null before `join()` */
  get state() {
    return this.#shown.state;
  }

  /** Why it is "disconnected", as in `onState`. */
  get reason() {
    return this.#shown.reason;
  }

  /** Whether the room is of no use any more: left, refused, taken over. */
  get ended() {
    return this.#phase === "ended";
  }

  get muted() {
    return this.#microphone.muted;
  }

  get deafened() {
    return this.#deafened;
  }

  /** The ICE servers of now. */
  get iceServers() {
    return this.#servers;
  }

  /** @type {Member[]} */
  get peers() {
    return [...this.#peers.values()].map(({ userId, state, talking }) => {
      const { muted = false, deafened = false } = this.#members.meta(userId);
      return { userId, state, talking, muted: muted === true, deafened: deafened === true };
    });
  }

  /** The RTCPeerConnection with a member, or null; for statistics. */
  connection(userId) {
    return this.#peers.get(String(userId))?.pc ?? null;
  }

  /**
   * Asks for the microphone, then joins the channel.
   *
   * @returns {Promise<void>} resolves when the server has admitted us, be it alone
   * @throws {VoiceError} and all is given back: microphone, channel
   */
  async join() {
    if (this.#phase !== "new") throw new Error("a VoiceRoom is joined once; make another");
    this.#phase = "joining";
    this.#show("connecting");
    try {
      await this.#microphone.open(this.#options.deviceId ?? null);
      await this.#channel.join();
    } catch (error) {
      this.#end(error.reason ?? "failed");
      throw error;
    }
  }

  /**
   * Leaves: microphone off, connections closed, nothing listens any more.
   *
   * @returns {Promise<void>} resolves when the server has closed the channel; never rejects
   */
  leave() {
    this.#end("left");
    return this.#channel.leave();
  }

  setMuted(muted) {
    this.#microphone.muted = Boolean(muted);
    this.#channel.push("toggle_mute", { muted: this.muted });
  }

  /** Plays the others, or not. */
  setDeafened(deafened) {
    this.#deafened = Boolean(deafened);
    for (const { pc } of this.#peers.values()) this.#applyDeafened(pc);
    this.#channel.push("toggle_deafen", { deafened: this.#deafened });
  }

  /** Push to talk: the key is down, or up. In mode "voice" it is news for the others only. */
  setTalking(talking) {
    if (this.#talking === Boolean(talking)) return;
    this.#talking = Boolean(talking);
    this.#microphone.talking = this.#talking;
    this.#channel.push("ptt_state", { active: this.#talking });
  }

  /** Uses these ICE servers from now on; restarts ICE where that is needed only. */
  setIceServers(iceServers) {
    if (!this.#keepServers(iceServers)) return;
    for (const peer of this.#peers.values()) peer.configure(this.#configuration(), this.#turnUrls);
  }

  // ---- the channel ----

  #events() {
    return {
      presence_state: (state) => this.#synced(state),
      presence_diff: (diff) => this.#changed(() => this.#members.diff(diff)),
      peer_joined: (payload) => this.#joinedPeer(readUser(payload)),
      peer_left: (payload) => this.#leftPeer(readUser(payload)),
      sdp_offer: (payload) => this.#described(readDescription(payload, "offer")),
      sdp_answer: (payload) => this.#described(readDescription(payload, "answer")),
      ice_candidate: (payload) => this.#candidate(readCandidate(payload)),
      ptt_state: (payload) => this.#talks(readTalking(payload)),
      ice_servers: (payload) => this.setIceServers(payload?.ice_servers),
      taken_over: () => this.#end("taken_over"),
    };
  }

  #entered({ ice_servers: servers, user_id: userId }) {
    this.#phase = "joined";
    this.#userId = readId(userId) ?? this.#userId;
    this.#members ??= new Members(this.#userId);
    if (this.#stops.length === 0) this.#stops.push(watchNetwork(() => this.#networkChanged()));
    if (servers !== undefined) this.setIceServers(servers);
    if (this.muted) this.#channel.push("toggle_mute", { muted: true });
    if (this.#deafened) this.#channel.push("toggle_deafen", { deafened: true });
    for (const peer of this.#peers.values()) peer.rejoined();
    this.#showPeers();
  }

  // The connections with the others need no server: they stay.
  #lost() {
    this.#phase = "lost";
    this.#show("disconnected", { reason: "connection_lost" });
  }

  #end(reason) {
    if (this.#phase === "ended") return;
    const wasNew = this.#phase === "new";
    this.#phase = "ended";
    for (const stop of this.#stops) stop();
    this.#microphone.close();
    this.#channel.leave();
    for (const userId of [...this.#peers.keys()]) this.#drop(userId);
    if (!wasNew) this.#show("disconnected", { reason });
  }

  // ---- members ----

  // After a rejoin the others may not be back yet: what works with them is not cut off.
  #synced(state) {
    this.#changed(() => {
      this.#members.sync(state);
      for (const userId of this.#peers.keys()) if (!this.#members.has(userId)) this.#tolerate(userId);
    });
  }

  #joinedPeer(userId) {
    if (userId === null) return;
    const known = this.#peers.get(userId);
    this.#changed(() => this.#members.add(userId));
    known?.rejoined();
  }

  #leftPeer(userId) {
    if (userId === null) return;
    this.#changed(() => {
      this.#members.remove(userId);
      this.#drop(userId);
    });
  }

  // Brings the peers in line with who is there.
  #changed(change) {
    if (!this.#members) return;
    change();
    for (const userId of this.#members.ids) {
      const provisional = this.#accept(userId);
      if (!this.#peers.has(userId)) this.#add(userId).start();
      else if (provisional) this.#peers.get(userId).start();
    }
    for (const userId of [...this.#peers.keys()]) {
      if (!this.#members.has(userId) && !this.#tolerated.has(userId)) this.#drop(userId);
    }
    this.#showPeers();
  }

  #tolerate(userId) {
    if (this.#tolerated.has(userId)) return;
    const { graceMs = GRACE_MS } = this.#options.times ?? {};
    const end = () => this.#changed(() => this.#tolerated.delete(userId));
    this.#tolerated.set(userId, setTimeout(end, graceMs));
  }

  #accept(userId) {
    clearTimeout(this.#tolerated.get(userId));
    return this.#tolerated.delete(userId);
  }

  #add(userId) {
    const peer = new VoicePeer(userId, this.#userId < userId, {
      connect: () => this.#connect(),
      attach: (pc) => this.#attach(pc),
      send: (event, payload) => this.#channel.push(event, { to: userId, ...payload }),
      onState: () => this.#showPeers(),
      onStream: (stream) => this.#call("onStream", userId, stream),
      onError: (error) => this.#report(error),
    }, this.#options.times);
    this.#peers.set(userId, peer);
    return peer;
  }

  #drop(userId) {
    const peer = this.#peers.get(userId);
    this.#accept(userId);
    this.#peers.delete(userId);
    peer?.close();
    if (peer) this.#call("onStream", userId, null);
  }

  // Who sends to us is there, even if Presence has not said so yet.
  #sender({ from, to }) {
    if (to !== this.#userId || from === this.#userId || !this.#members) return null;
    if (this.#peers.has(from)) return this.#peers.get(from);
    this.#tolerate(from);
    const peer = this.#add(from);
    this.#showPeers();
    return peer;
  }

  #described(message) {
    if (message) this.#sender(message)?.receive(message.description);
  }

  #candidate(message) {
    if (message) this.#sender(message)?.candidate(message.candidate);
  }

  #talks(message) {
    const peer = message && this.#peers.get(message.userId);
    if (!peer || peer.talking === message.active) return;
    peer.talking = message.active;
    this.#call("onTalking", peer.userId, peer.talking);
    this.#showPeers();
  }

  // ---- connections ----

  #configuration() {
    const { iceTransportPolicy = "all" } = this.#options;
    return { iceServers: this.#servers, iceTransportPolicy };
  }

  #connect() {
    const { RTCPeerConnection: Connection = globalThis.RTCPeerConnection } = this.#options;
    const pc = new Connection(this.#configuration());
    pc.addEventListener("track", ({ track }) => (track.enabled = !this.#deafened));
    return pc;
  }

  #attach(pc) {
    const stream = this.#microphone.stream;
    const [track] = stream?.getAudioTracks() ?? [];
    if (track) pc.addTrack(track, stream);
    else if (pc.getTransceivers().length === 0) pc.addTransceiver("audio", { direction: "recvonly" });
  }

  #applyDeafened(pc) {
    for (const { track } of pc?.getReceivers() ?? []) track.enabled = !this.#deafened;
  }

  #networkChanged() {
    for (const peer of this.#peers.values()) peer.networkChanged();
  }

  #keepServers(iceServers) {
    const checked = checkIceServers(iceServers);
    if (!checked.ok) {
      this.#report(new Error(checked.error));
      return false;
    }
    this.#servers = checked.servers;
    this.#turnUrls = checked.turnUrls;
    return true;
  }

  // ---- what the app sees ----

  #showPeers() {
    if (this.#phase === "ended") return;
    if (this.#phase === "joined") this.#showJoined();
    this.#call("onPeers", this.peers);
  }

  // Alone is connected; with others, a path to one of them that may still be found is enough.
  #showJoined() {
    const peers = [...this.#peers.values()];
    const failed = peers.find(({ state }) => state === "disconnected");
    const allFailed = failed && peers.every(({ state }) => state === "disconnected");
    if (allFailed) this.#show("disconnected", { reason: "peer_failed", userId: failed.userId });
    else this.#show("connected");
  }

  #show(state, detail = {}) {
    if (this.#shown.state === state && this.#shown.reason === detail.reason) return;
    this.#shown = { state, reason: detail.reason };
    this.#call("onState", state, detail);
  }

  // What the app's function throws is no reason to stop half-way.
  #call(name, ...args) {
    try {
      this.#options[name]?.(...args);
    } catch (error) {
      this.#report(error);
    }
  }

  #report(error) {
    const { onError = (unheard) => console.warn(unheard) } = this.#options;
    onError(error);
  }
}
