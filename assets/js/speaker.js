/**
 * Plays what the members of a room say: one audio element each, made and removed as streams come and
 * go. To be given to a VoiceRoom as `onStream: speaker.play`.
 *
 * @param {object} [options]
 * @param {string|null} [options.deviceId] of the loudspeaker or headphones
 * @param {ParentNode} [options.parent] where the elements go; without one they are not in the page
 * @param {(error: Error) => void} [options.onError] the browser wants a tap before it plays
 *   (NotAllowedError), or the device is gone
 * @returns {{play: (userId: string, stream: MediaStream|null) => void,
 *   setDevice: (deviceId: string|null) => Promise<void>, resume: () => void, close: () => void}}
 *   `resume()` tries again what the browser did not let play, from a tap
 */
export function createSpeaker({ deviceId = null, parent = null, onError } = {}) {
  const elements = new Map();
  let device = deviceId;
  const report = (error) => onError?.(error);

  // Browsers without setSinkId play where the system says.
  const route = (audio) => Promise.resolve(audio.setSinkId?.(device ?? "")).catch(report);
  const start = (audio) => Promise.resolve(audio.play()).catch((error) => {
    if (error.name !== "AbortError") report(error); // taken away before it began
  });
  const remove = (userId) => {
    const audio = elements.get(userId);
    elements.delete(userId);
    if (!audio) return;
    audio.pause();
    audio.srcObject = null;
    audio.remove();
  };

  return {
    play(userId, stream) {
      remove(userId);
      if (!stream) return;
      const audio = document.createElement("audio");
      audio.autoplay = true;
      audio.srcObject = stream;
      elements.set(userId, audio);
      parent?.append(audio);
      if (device !== null) route(audio);
      start(audio);
    },
    async setDevice(next) {
      device = next;
      await Promise.all([...elements.values()].map(route));
    },
    resume() {
      for (const audio of elements.values()) if (audio.paused) start(audio);
    },
    close() {
      for (const userId of [...elements.keys()]) remove(userId);
    },
  };
}
