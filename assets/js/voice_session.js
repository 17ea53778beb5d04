import { VoiceError } from "./voice_error.js";

/**
 * At most one room at a time, whatever is asked and however fast: the old room is left, and the
 * server has closed it, before the next is joined; of several asked for meanwhile only the last is.
 */
export class VoiceSession {
  #room = null;
  #wanted = null;
  #running = null;
  #onFailure;

  /** @param {(error: Error) => void} onFailure why a room that was still wanted could not be had */
  constructor(onFailure = () => undefined) {
    this.#onFailure = onFailure;
  }

  /** The room one is in, or is joining; else null. */
  get room() {
    return this.#room;
  }

  /**
   * @param {() => VoiceRoom} makeRoom called when its turn comes, if it does
   * @returns {Promise<void>} when all is as was asked last; never rejects
   */
  join(makeRoom) {
    return this.#want(makeRoom);
  }

  /** @returns {Promise<void>} */
  leave() {
    return this.#want(null);
  }

  #want(makeRoom) {
    this.#wanted = { makeRoom };
    this.#room?.leave(); // a join that is under way ends at once
    this.#running ??= this.#run();
    return this.#running;
  }

  async #run() {
    while (this.#wanted) {
      const { makeRoom } = this.#wanted;
      await this.#room?.leave();
      this.#room = null;
      if (this.#wanted.makeRoom !== makeRoom) continue;
      this.#wanted = null;
      if (makeRoom) await this.#enter(makeRoom);
    }
    this.#running = null;
  }

  async #enter(makeRoom) {
    try {
      this.#room = makeRoom();
      await this.#room.join();
    } catch (error) {
      if (!(error instanceof VoiceError && error.reason === "left")) this.#onFailure(error);
    }
  }
}
