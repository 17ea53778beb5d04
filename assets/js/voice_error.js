/**
 * Why voice could not be had. `reason` is the server's ("already_in_channel", "voice_disabled",
 * "not found", "unauthorized", ...), or
 *
 * - "timeout": the server did not answer the join
 * - "left": `leave()` was called meanwhile
 * - "microphone_denied", "microphone_not_found", "microphone_failed"; `cause` is the browser's error
 */
export class VoiceError extends Error {
  /**
   * @param {string} reason
   * @param {ErrorOptions} [options]
   */
  constructor(reason, options) {
    super(`voice: ${reason}`, options);
    this.name = "VoiceError";
    this.reason = reason;
  }
}
