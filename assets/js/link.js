import { answersOffer, firstMid, fragmentsOf, nameOffer, sessionOf } from "./sdp.js";

const HELD_MAX = 100;

/**
 * One RTCPeerConnection and its negotiation with the peer's: the "perfect negotiation" of W3C
 * webrtc §10.7, with one difference: the caller runs the asynchronous functions one after another,
 * so that no step can come between another's.
 */
export class Link {
  #pc;
  #polite;
  #calls;
  #session = null;
  #held = [];
  #attached = false;

  /**
   * @param {RTCPeerConnection} pc
   * @param {boolean} polite whether this end takes its own offer back when two cross
   * @param {object} calls
   * @param {(pc: RTCPeerConnection) => void} calls.attach gives the connection what is to be sent
   * @param {(event: string, payload: object) => void} calls.send "sdp_offer" {sdp}, "sdp_answer"
   *   {sdp} or "ice_candidate" {candidate}
   * @param {RTCIceCandidateInit[]} [held] candidates that came before this link was there
   */
  constructor(pc, polite, calls, held = []) {
    this.#pc = pc;
    this.#polite = polite;
    this.#calls = calls;
    this.#held = held;
    pc.addEventListener("icecandidate", ({ candidate }) => this.#found(candidate));
  }

  get pc() {
    return this.#pc;
  }

  /** Candidates that no description has asked for yet. */
  get held() {
    return this.#held;
  }

  /** Whether the peer's end may still be there: its end says when it goes (RFC 8446 §6.1). */
  get alive() {
    const { connectionState } = this.#pc;
    const gone = ["closed", "failed"].includes(transportOf(this.#pc)?.state);
    return !gone && (connectionState === "connected" || connectionState === "disconnected");
  }

  /** Adds what is to be sent, once; the browser then asks for negotiation. */
  attach() {
    if (this.#attached) return;
    this.#attached = true;
    this.#calls.attach(this.#pc);
  }

  /** Offers; or offers the same again if there is no answer to the last one yet. */
  async offer({ again = false } = {}) {
    if (this.#pc.signalingState === "stable") await this.#pc.setLocalDescription();
    else if (!again || this.#pc.signalingState !== "have-local-offer") return;
    const { type, sdp } = this.#pc.localDescription;
    this.#calls.send("sdp_offer", { sdp: { type, sdp } });
  }

  /**
   * Takes a description of the peer.
   *
   * @param {RTCSessionDescriptionInit} description
   * @returns {Promise<"taken"|"ignored"|"foreign">} foreign: it is of another RTCPeerConnection
   *   than the one that this link is with, which is gone; nothing was done
   */
  async receive(description) {
    const take = { offer: () => this.#takeOffer(description), answer: () => this.#takeAnswer(description) };
    const result = await take[description.type]();
    if (result === "taken") await this.#release();
    return result;
  }

  /** Takes a candidate of the peer, now or when its description comes; drops it if it is late. */
  async candidate(candidate) {
    if (this.#isDue(candidate)) return this.#add(candidate);
    if (this.#held.length < HELD_MAX) this.#held.push(candidate);
    return undefined;
  }

  close() {
    this.#pc.close();
  }

  async #takeOffer(offer) {
    if (this.#pc.signalingState !== "stable" && !this.#polite) return "ignored";
    if (this.#isForeign(offer.sdp)) return "foreign";

    await this.#setRemote(offer); // an offer of one's own is taken back
    this.attach();
    await this.#pc.setLocalDescription();
    const { type, sdp } = this.#pc.localDescription;
    this.#calls.send("sdp_answer", { sdp: { type, sdp: nameOffer(sdp, offer.sdp) } });
    return "taken";
  }

  async #takeAnswer(answer) {
    if (this.#pc.signalingState !== "have-local-offer") return "ignored";
    if (!answersOffer(answer.sdp, this.#pc.localDescription.sdp)) return "ignored";
    if (this.#isForeign(answer.sdp)) return "foreign";

    await this.#setRemote(answer);
    return "taken";
  }

  async #setRemote(description) {
    await this.#pc.setRemoteDescription(description);
    this.#session = sessionOf(description.sdp)?.id ?? null;
  }

  #isForeign(sdp) {
    const session = sessionOf(sdp);
    return this.#session !== null && session !== null && session.id !== this.#session;
  }

  #isDue({ usernameFragment }) {
    const remote = this.#pc.remoteDescription;
    if (!remote) return false;
    return usernameFragment === null || fragmentsOf(remote.sdp).includes(usernameFragment);
  }

  // What is not of the description that has come is of one that never will.
  async #release() {
    const due = this.#held.filter((candidate) => this.#isDue(candidate));
    this.#held = [];
    for (const candidate of due) await this.#add(candidate);
  }

  // A candidate that the browser cannot use is no reason to end a call that has others.
  async #add(candidate) {
    await this.#pc.addIceCandidate(candidate).catch(() => undefined);
  }

  // Chromium marks the end by null, which names no generation; the peer is told which one.
  #found(found) {
    const candidate = found?.toJSON?.() ?? found ?? this.#end();
    if (candidate) this.#calls.send("ice_candidate", { candidate });
  }

  #end() {
    const sdp = this.#pc.localDescription?.sdp;
    if (!sdp) return null;
    const [usernameFragment = null] = fragmentsOf(sdp);
    return { candidate: "", sdpMid: firstMid(sdp), sdpMLineIndex: 0, usernameFragment };
  }
}

/** The connection's DTLS transport, once there is one: all media share it. */
export function transportOf(pc) {
  return pc.getTransceivers().map(({ sender }) => sender.transport).find(Boolean) ?? null;
}
