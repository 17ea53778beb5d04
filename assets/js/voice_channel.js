import { VoiceError } from "./voice_error.js";

const LEAVE_MS = 3_000;

/**
 * A Phoenix channel whose join is a promise, whose refused join is not tried again, and whose leave
 * is over when the server says so (Phoenix's own client does not wait for that).
 *
 * After a lost socket or a crash of the channel Phoenix joins again by itself; that shows as
 * `onLost`, `onRejoining` and then `onJoined` or `onEnded`.
 */
export class VoiceChannel {
  #socket;
  #channel = null;
  #topic;
  #events;
  #calls;
  #state = "new"; // joining | joined | lost | ended
  #push = null;
  #refs = [];
  #leaving = null;
  #settle = null;

  /**
   * @param {object} socket a Phoenix Socket
   * @param {string} topic
   * @param {Record<string, (payload: unknown) => void>} events what to do with each pushed event
   * @param {object} calls
   * @param {(reply: object) => void} calls.onJoined also after a rejoin
   * @param {() => void} calls.onLost
   * @param {() => void} calls.onRejoining
   * @param {(reason: string) => void} calls.onEnded a rejoin was refused, or the server closed the
   *   channel ("closed")
   * @param {(error: Error) => void} calls.onError what an event's function threw
   */
  constructor(socket, topic, events, calls) {
    this.#socket = socket;
    this.#topic = topic;
    this.#events = events;
    this.#calls = calls;
  }

  /**
   * @returns {Promise<object>} the server's reply
   * @throws {VoiceError}
   */
  async join() {
    if (this.#state !== "new") throw new VoiceError("left");
    this.#state = "joining";
    this.#channel = this.#socket.channel(this.#topic, {});
    for (const [event, take] of Object.entries(this.#events)) {
      this.#channel.on(event, (payload) => this.#guard(take, payload));
    }
    this.#channel.onError(() => this.#lose());
    this.#channel.onClose(() => this.#end("closed"));
    this.#refs.push(this.#socket.onOpen(() => this.#state === "lost" && this.#calls.onRejoining()));

    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      this.#push = this.#channel.join();
      this.#push.receive("ok", (reply) => this.#enter(reply ?? {}));
      this.#push.receive("error", (reply) => this.#end(reply?.reason ?? "refused"));
      this.#push.receive("timeout", () => this.#end("timeout"));
    });
  }

  /** Sends, if the channel is there: what a lost one missed is of no use later. */
  push(event, payload) {
    if (this.#state === "joined") this.#channel.push(event, payload);
  }

  /** Leaves. @returns {Promise<void>} resolves when the server has closed the channel */
  leave() {
    this.#leaving ??= this.#leave();
    return this.#leaving;
  }

  async #leave() {
    const before = this.#state;
    this.#state = "ended";
    this.#forget();
    if (before === "new" || before === "ended") return;

    this.#settle?.reject(new VoiceError("left"));
    const admitted = before === "joined";
    const sent = this.#socket.isConnected() && before !== "lost";
    const push = this.#channel.leave();
    if (sent) await this.#closed(admitted, push);
  }

  // The server's answers to a join that is under way, to the leave, and then its phx_close.
  #closed(admitted, push) {
    return new Promise((resolve) => {
      const refs = [];
      const done = () => {
        clearTimeout(timer);
        this.#socket.off(refs);
        resolve();
      };
      const timer = setTimeout(done, LEAVE_MS);
      const read = ({ topic, event, ref, payload }) => {
        if (topic !== this.#topic) return;
        if (event === "phx_reply" && ref === this.#push.ref) admitted ||= payload?.status === "ok";
        if (event === "phx_close" && ref === this.#push.ref) done();
        if (event === "phx_reply" && ref === push.ref && !admitted) done();
      };
      refs.push(this.#socket.onMessage(read), this.#socket.onClose(done));
    });
  }

  #enter(reply) {
    if (this.#state === "ended") return;
    this.#state = "joined";
    this.#settle.resolve(reply);
    this.#guard(this.#calls.onJoined, reply);
  }

  // While the first join is under way, a lost socket is no news: Phoenix tries until the timeout.
  #lose() {
    if (this.#state !== "joined") return;
    this.#state = "lost";
    this.#guard(this.#calls.onLost);
  }

  #end(reason) {
    if (this.#state === "ended") return;
    const first = this.#state === "joining";
    this.#state = "ended";
    this.#forget();
    this.#channel.leave(); // else Phoenix would join again and again
    if (first) this.#settle.reject(new VoiceError(reason));
    else this.#guard(this.#calls.onEnded, reason);
  }

  #forget() {
    this.#socket.off(this.#refs);
    this.#refs = [];
  }

  // A server or a peer that sends nonsense must not end Phoenix's own message loop.
  #guard(take, payload) {
    if (this.#state === "ended" && take !== this.#calls.onEnded) return;
    try {
      take(payload);
    } catch (error) {
      this.#calls.onError(error);
    }
  }
}
