const DEFAULTS = {
  disconnectedMs: 3_000, // a connection that falters often mends itself
  connectMs: 10_000, // for the first connection, before it is tried again
  retryMs: 4_000, // after the first restart; doubles with each
  retryMaxMs: 15_000,
  attempts: 5,
};

/**
 * When to restart a connection that broke, and when to give up: fed with the connection's states,
 * it calls `restart(attempt)` (from 1) and at last `giveUp()`. A peer's attempts do not count as
 * one's own, else two would encourage each other for ever.
 */
export class Recovery {
  #times;
  #calls;
  #timer = null;
  #attempt = 0;
  #lost = true;
  #waiting = false; // for what the last restart brings
  #stopped = false;

  /**
   * @param {{restart: (attempt: number) => void, giveUp: () => void}} calls
   * @param {Partial<typeof DEFAULTS>} [times] milliseconds, and the number of attempts
   */
  constructor(calls, times = {}) {
    this.#calls = calls;
    this.#times = { ...DEFAULTS, ...times };
  }

  /** @param {RTCPeerConnectionState} state */
  update(state) {
    if (state === "connected") return this.#mended();
    if (state === "failed" && !this.#waiting) return this.#later(0);
    if (state === "disconnected" && !this.#lost) this.#later(this.#times.disconnectedMs);
    else if (this.#timer === null && this.#attempt === 0) this.#later(this.#times.connectMs);
    this.#lost = true;
    return undefined;
  }

  /** Tries at once, if the connection is not up, with the full number of attempts. */
  retry() {
    if (!this.#lost || this.#stopped) return;
    this.#attempt = 0;
    this.#later(0);
  }

  /** A connection is being made, the first or a new one: it has its time, and all attempts. */
  begin() {
    this.#lost = true;
    this.#waiting = false;
    this.#attempt = 0;
    this.#later(this.#times.connectMs);
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #mended() {
    this.#lost = false;
    this.#waiting = false;
    this.#attempt = 0;
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  #later(ms) {
    if (this.#stopped) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#act(), ms);
  }

  #act() {
    this.#timer = null;
    this.#lost = true;
    this.#attempt += 1;
    if (this.#attempt > this.#times.attempts) {
      this.#waiting = false;
      this.#calls.giveUp();
      return;
    }
    this.#waiting = true;
    this.#later(Math.min(this.#times.retryMs * 2 ** (this.#attempt - 1), this.#times.retryMaxMs));
    this.#calls.restart(this.#attempt);
  }
}
