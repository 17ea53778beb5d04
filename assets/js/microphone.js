import { VoiceError } from "./voice_error.js";

const REASONS = {
  NotAllowedError: "microphone_denied",
  SecurityError: "microphone_denied",
  NotFoundError: "microphone_not_found",
};
const PROCESSING = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

/**
 * The microphone's track, and whether it is heard: not while muted, and in mode "ptt" only while
 * talking.
 */
export class Microphone {
  #getUserMedia;
  #onLost;
  #mode;
  #stream = null;
  #closed = false;
  #abandon = null;
  #muted = false;
  #talking = false;

  /**
   * @param {object} [options]
   * @param {(constraints: MediaStreamConstraints) => Promise<MediaStream|null>} [options.getUserMedia]
   *   null: there is no microphone, one listens only
   * @param {"voice"|"ptt"} [options.mode]
   * @param {() => void} [options.onLost] the device is gone
   */
  constructor({ getUserMedia = browserMedia, mode = "voice", onLost = () => undefined } = {}) {
    this.#onLost = onLost;
    this.#getUserMedia = getUserMedia;
    this.#mode = mode;
  }

  /** The stream, once opened; null when there is none. */
  get stream() {
    return this.#stream;
  }

  get muted() {
    return this.#muted;
  }

  get mode() {
    return this.#mode;
  }

  set muted(muted) {
    this.#muted = muted;
    this.#apply();
  }

  set talking(talking) {
    this.#talking = talking;
    this.#apply();
  }

  /**
   * Asks for the microphone, and for any other if the chosen one is gone.
   *
   * @param {string|null} [deviceId]
   * @returns {Promise<void>} rejects as soon as `close()` is called, however long a person thinks
   * @throws {VoiceError}
   */
  open(deviceId = null) {
    return new Promise((resolve, reject) => {
      this.#abandon = () => reject(new VoiceError("left"));
      this.#ask(deviceId).then((stream) => resolve(this.#keep(stream)), reject);
    });
  }

  /** Ends the track; one that is still asked for ends as soon as it is there. */
  close() {
    this.#closed = true;
    this.#abandon?.();
    stop(this.#stream);
    this.#stream = null;
  }

  #keep(stream) {
    if (this.#closed) return stop(stream);
    this.#stream = stream;
    const lost = () => this.#closed || this.#onLost();
    for (const track of stream?.getAudioTracks() ?? []) track.addEventListener("ended", lost);
    return this.#apply();
  }

  async #ask(deviceId) {
    try {
      return await this.#getUserMedia(constraints(deviceId));
    } catch (error) {
      const gone = error?.name === "OverconstrainedError" || error?.name === "NotFoundError";
      if (deviceId !== null && gone && !this.#closed) return this.#ask(null);
      throw new VoiceError(REASONS[error?.name] ?? "microphone_failed", { cause: error });
    }
  }

  #apply() {
    const heard = !this.#muted && (this.#mode !== "ptt" || this.#talking);
    for (const track of this.#stream?.getAudioTracks() ?? []) track.enabled = heard;
  }
}

function constraints(deviceId) {
  const device = deviceId === null ? {} : { deviceId: { exact: deviceId } };
  return { audio: { ...PROCESSING, ...device }, video: false };
}

// Without HTTPS (and not on localhost) browsers have no mediaDevices at all.
async function browserMedia(wanted) {
  const devices = globalThis.navigator?.mediaDevices;
  if (!devices) throw new DOMException("the page is not a secure context", "SecurityError");
  return devices.getUserMedia(wanted);
}

function stop(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}
