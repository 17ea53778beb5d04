import { RateMeter, TokenBucket } from "./meter.js";

const CHUNK = new Uint8Array(16 * 1024);
const BUFFERED_MAX = 1024 * 1024;
const TICK_MS = 10;

/**
 * Why a call could not be had: `reason` is "no_candidates" (an end has no address to be called at),
 * "failed", "timeout", "silent" or "aborted".
 */
export class CallError extends Error {
  constructor(reason) {
    super(`the call ended: ${reason}`);
    this.name = "CallError";
    this.reason = reason;
  }
}

/**
 * A call from this page to this page: two RTCPeerConnections that know each other, so that a
 * relay can be tested with real media and without a second person.
 */
export class LoopbackCall {
  #nextChannel = 0;
  #stops = new Set();

  /**
   * @param {RTCIceServer[]} iceServers
   * @param {object} [options]
   * @param {RTCIceTransportPolicy} [options.policy] "relay" forbids every path around the relay
   * @param {MediaStreamTrack} [options.track] sent in both directions
   * @param {(event: RTCPeerConnectionIceErrorEvent) => void} [options.onIceError]
   */
  constructor(iceServers, { policy = "relay", track, onIceError } = {}) {
    const config = { iceServers, iceTransportPolicy: policy };
    this.caller = new RTCPeerConnection(config);
    this.callee = new RTCPeerConnection(config);
    this.ends = [this.caller, this.callee];
    this.pings = this.channel("ping", { ordered: false, maxRetransmits: 0 });
    this.bulk = this.channel("bulk");
    this.pings[1].addEventListener("message", ({ data }) => this.pings[1].send(data));

    for (const pc of this.ends) {
      if (track) pc.addTrack(track.clone(), new MediaStream());
      if (onIceError) pc.addEventListener("icecandidateerror", onIceError);
    }
  }

  /** A data channel, as its two ends: [caller's, callee's]. To be made before `connect()`. */
  channel(label, options = {}) {
    const init = { ...options, negotiated: true, id: this.#nextChannel++ };
    return this.ends.map((pc) => {
      const end = pc.createDataChannel(label, init);
      end.binaryType = "arraybuffer";
      return end;
    });
  }

  /**
   * Resolves when data can pass both ways.
   *
   * @param {object} [options]
   * @param {number} [options.timeout] milliseconds
   * @param {AbortSignal} [options.signal]
   * @throws {CallError}
   */
  async connect({ timeout = 15_000, signal } = {}) {
    const open = this.#opened(timeout, signal);
    const negotiated = negotiate(this.caller, this.callee);
    forwardCandidates(this.caller, this.callee, negotiated);
    forwardCandidates(this.callee, this.caller, negotiated);
    await Promise.all([open, negotiated]);
  }

  /**
   * Sends a ping every `every` ms; `onRtt` gets each round trip in ms. A lost one is not repeated.
   *
   * @returns {() => {sent: number, received: number}} stops it
   */
  ping(every, onRtt) {
    const [near] = this.pings;
    const counts = { sent: 0, received: 0 };
    const onMessage = ({ data }) => {
      counts.received += 1;
      onRtt(performance.now() - Number(data));
    };
    near.addEventListener("message", onMessage);
    const stopTimer = this.#every(every, () => {
      near.send(String(performance.now()));
      counts.sent += 1;
    });
    return () => {
      stopTimer();
      near.removeEventListener("message", onMessage);
      return counts;
    };
  }

  /**
   * Sends bytes to the callee at no more than this rate.
   *
   * @returns {{received: RateMeter, stop: () => void}} what arrived at the callee
   */
  load(bitsPerSecond) {
    const [near, far] = this.bulk;
    const received = new RateMeter();
    const bucket = new TokenBucket(bitsPerSecond, 8 * CHUNK.length);
    const onMessage = ({ data }) => received.add(data.byteLength, performance.now());
    far.addEventListener("message", onMessage);

    const stopTimer = this.#every(TICK_MS, () => {
      const mayBuffer = () => near.bufferedAmount < BUFFERED_MAX;
      while (mayBuffer() && bucket.take(CHUNK.length, performance.now())) near.send(CHUNK);
    });
    const stop = () => {
      stopTimer();
      far.removeEventListener("message", onMessage);
    };
    return { received, stop };
  }

  /** @returns {Promise<{caller: RTCStatsReport, callee: RTCStatsReport}>} */
  async stats() {
    const [caller, callee] = await Promise.all(this.ends.map((pc) => pc.getStats()));
    return { caller, callee };
  }

  /** Ends the call and its measurements; the browser gives its relayed addresses back. */
  close() {
    for (const stop of [...this.#stops]) stop();
    for (const pc of this.ends) {
      for (const { track } of pc.getSenders()) track?.stop();
      pc.close();
    }
  }

  // Runs `work` every `ms` while the channels are open.
  #every(ms, work) {
    const timer = setInterval(() => {
      if (this.pings[0].readyState === "open" && this.bulk[0].readyState === "open") work();
    }, ms);
    const stop = () => {
      clearInterval(timer);
      this.#stops.delete(stop);
    };
    this.#stops.add(stop);
    return stop;
  }

  #opened(timeout, signal) {
    const channels = [...this.pings, ...this.bulk];
    return new Promise((resolve, reject) => {
      const fail = (reason) => reject(new CallError(reason));
      const timer = setTimeout(() => fail("timeout"), timeout);
      this.#stops.add(() => clearTimeout(timer));

      const onOpen = () => {
        if (!channels.every((channel) => channel.readyState === "open")) return;
        clearTimeout(timer);
        resolve();
      };
      for (const channel of channels) channel.addEventListener("open", onOpen);
      for (const pc of this.ends) watch(pc, fail);
      signal?.addEventListener("abort", () => fail("aborted"), { once: true });
    });
  }
}

// Tells early of an end that cannot be called.
function watch(pc, fail) {
  let candidates = 0;
  pc.addEventListener("icecandidate", ({ candidate }) => {
    if (candidate?.candidate) candidates += 1;
  });
  pc.addEventListener("icegatheringstatechange", () => {
    if (pc.iceGatheringState === "complete" && candidates === 0) fail("no_candidates");
  });
  pc.addEventListener("connectionstatechange", () => {
    if (pc.connectionState === "failed") fail("failed");
  });
}

async function negotiate(caller, callee) {
  await caller.setLocalDescription();
  await callee.setRemoteDescription(caller.localDescription);
  await callee.setLocalDescription();
  await caller.setRemoteDescription(callee.localDescription);
}

// A candidate may be given to a peer only when that peer knows the other's description.
function forwardCandidates(from, to, negotiated) {
  from.addEventListener("icecandidate", async ({ candidate }) => {
    await negotiated;
    if (candidate && to.signalingState !== "closed") await to.addIceCandidate(candidate);
  });
}
