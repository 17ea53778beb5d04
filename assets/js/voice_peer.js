import { needsRestart } from "./ice_refresh.js";
import { Link, transportOf } from "./link.js";
import { Recovery } from "./recovery.js";
import { selectedPair } from "./stats.js";

const OFFER_WAIT_MS = 2_500; // for the offer of the member whose part it is
const FRESH_ATTEMPT = 3; // from this one on, a new connection instead of an ICE restart
const SUSPECT_MS = 10_000;
const PATIENCE = 1.5; // of the end that does not initiate, so that not both restart at once

/**
 * Another member of the room and the connection with it, over the life of several
 * RTCPeerConnections if need be. Of two members one initiates: it offers as soon as it knows the
 * other; the other waits for that, and offers itself when nothing comes.
 */
export class VoicePeer {
  #calls;
  #initiates;
  #link = null;
  #tasks = Promise.resolve();
  #recovery;
  #waiting = null;
  #started = false;
  #broken = false; // was connected and is not any more
  #suspectUntil = 0; // may be with a tab that is on its way out
  #closed = false;
  #times;

  /**
   * @param {string} userId
   * @param {boolean} initiates
   * @param {object} calls
   * @param {() => RTCPeerConnection} calls.connect
   * @param {(pc: RTCPeerConnection) => void} calls.attach adds what is to be sent
   * @param {(event: string, payload: object) => void} calls.send
   * @param {() => void} calls.onState
   * @param {(stream: MediaStream) => void} calls.onStream
   * @param {(error: Error) => void} calls.onError
   * @param {object} [times] milliseconds; see recovery.js, and `offerWaitMs`
   */
  constructor(userId, initiates, calls, times = {}) {
    this.userId = userId;
    this.talking = false;
    /** @type {"connecting"|"connected"|"disconnected"} disconnected: given up */
    this.state = "connecting";
    this.#initiates = initiates;
    this.#calls = calls;
    this.#times = times;
    const patience = initiates ? 1 : PATIENCE;
    const restart = (attempt) => this.#enqueue(() => this.#restart(attempt));
    const giveUp = () => this.#setState("disconnected");
    const { disconnectedMs = 3_000 } = times;
    const own = { ...times, disconnectedMs: disconnectedMs * patience };
    this.#recovery = new Recovery({ restart, giveUp }, own);
  }

  /** The RTCPeerConnection of now, or null. */
  get pc() {
    return this.#link?.pc ?? null;
  }

  /** The member is there: makes the first connection. Harmless when one is made or being made. */
  start() {
    if (this.#started) return;
    this.#started = true;
    this.#begin(() => !this.pc?.remoteDescription);
  }

  /**
   * The member, or oneself, has joined again: a connection that is broken is replaced at once, and so
   * is one that works still and breaks soon, as it may be with the member's tab of before.
   */
  rejoined() {
    this.start();
    if (this.#broken || this.state === "disconnected") this.#begin(() => !this.#link?.alive);
    else this.#suspectUntil = performance.now() + SUSPECT_MS;
  }

  /** Takes an offer or an answer. */
  receive(description) {
    clearTimeout(this.#waiting);
    this.#enqueue(() => this.#receive(description));
  }

  candidate(candidate) {
    this.#enqueue(() => (this.#link ?? this.#renew()).candidate(candidate));
  }

  /**
   * Applies a configuration whose ICE servers are new; restarts ICE only if needed.
   *
   * @param {RTCConfiguration} configuration
   * @param {string[]} turnUrls
   */
  configure(configuration, turnUrls) {
    this.#enqueue(async () => {
      const pc = this.pc;
      if (!pc) return;
      pc.setConfiguration(configuration);
      const pair = selectedPair(await pc.getStats());
      if (pc !== this.pc) return;
      if (needsRestart({ pair, state: pc.connectionState, turnUrls })) pc.restartIce();
    });
    if (this.state === "disconnected") this.#retry();
  }

  /** The network is another, or back: what is not connected is tried at once. */
  networkChanged() {
    if (this.pc?.connectionState === "connected" && this.#link.alive) return;
    this.#retry();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#waiting);
    this.#recovery.stop();
    this.#link?.close();
    this.#link = null;
  }

  // ---- tasks: one after another ----

  #enqueue(task) {
    const run = async () => {
      if (!this.#closed) await task();
    };
    // A connection that closes under a task makes it fail: that is no news.
    this.#tasks = this.#tasks.then(run).catch((error) => this.#closed || this.#calls.onError(error));
  }

  async #receive(description) {
    const link = this.#link ?? this.#renew();
    const result = await link.receive(description);
    if (this.#closed) return;
    if (result !== "foreign") return;
    if (description.type === "offer") await this.#renew().receive(description);
    else this.#open();
  }

  async #restart(attempt) {
    const pc = this.pc;
    const dead = !pc || ["closed", "failed"].includes(transportOf(pc)?.state);
    if (dead || attempt >= FRESH_ATTEMPT) this.#open();
    else if (pc.signalingState === "have-local-offer") await this.#link.offer({ again: true });
    else if (pc.remoteDescription) pc.restartIce();
    else this.#link.attach();
  }

  // ---- connections ----

  /** Begins anew, with an offer. */
  #open() {
    clearTimeout(this.#waiting);
    this.#renew().attach();
  }

  #renew() {
    const held = this.#link?.held ?? [];
    this.#link?.close();
    const pc = this.#calls.connect();
    const { attach, send } = this.#calls;
    this.#suspectUntil = 0;
    const link = new Link(pc, !this.#initiates, { attach, send: this.#while(pc, send) }, held);
    this.#link = link;

    const on = (event, take) => pc.addEventListener(event, this.#while(pc, take));
    on("negotiationneeded", () => this.#enqueue(() => this.#link === link && link.offer()));
    on("connectionstatechange", () => this.#follow(pc));
    on("track", ({ track, streams: [stream] }) =>
      this.#calls.onStream(stream ?? new MediaStream([track])));
    return link;
  }

  // Only while it is this peer's connection; a closed one may still have news.
  #while(pc, take) {
    return (...args) => {
      if (!this.#closed && this.pc === pc) take(...args);
    };
  }

  #follow(pc) {
    const state = pc.connectionState;
    this.#recovery.update(state);
    if (state === "connected") {
      this.#broken = false;
      this.#setState("connected");
      const transport = transportOf(pc);
      if (transport) transport.onstatechange = this.#while(pc, () => this.#followTransport(transport));
    } else if (this.state === "connected") {
      this.#lose();
    }
  }

  #lose() {
    this.#broken = true;
    this.#setState("connecting");
    if (performance.now() < this.#suspectUntil) this.#begin(() => !this.#link?.alive);
  }

  // The peer has closed its end: it has left, which the channel will tell, or begun anew.
  #followTransport({ state }) {
    if (state !== "closed" && state !== "failed") return;
    this.#lose();
    this.#recovery.update("disconnected");
  }

  // Offers, or waits for the offer of the one whose part it is; unless it is not needed by then.
  #begin(isNeeded) {
    const open = () => this.#enqueue(() => (isNeeded() ? this.#open() : undefined));
    const { offerWaitMs = OFFER_WAIT_MS } = this.#times;
    this.#suspectUntil = 0;
    this.#setState("connecting");
    this.#recovery.begin();
    clearTimeout(this.#waiting);
    if (this.#initiates) open();
    else this.#waiting = setTimeout(open, offerWaitMs);
  }

  #retry() {
    if (this.state === "disconnected") this.#setState("connecting");
    this.#recovery.retry();
  }

  #setState(state) {
    if (this.#closed || this.state === state) return;
    this.state = state;
    this.#calls.onState();
  }
}
