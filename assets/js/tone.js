/**
 * A quiet tone as a microphone would give it, without a microphone and its permission.
 *
 * Browsers start sound only after a tap or a key: until `resume()` is called from one,
 * `running()` may be false, and such a track sends nothing or silence.
 *
 * @param {number} hertz
 * @returns {{track: MediaStreamTrack, running: () => boolean, resume: () => Promise<void>,
 *   close: () => void}}
 */
export function createTone(hertz = 440) {
  const context = new AudioContext();
  const oscillator = new OscillatorNode(context, { frequency: hertz });
  const volume = new GainNode(context, { gain: 0.1 });
  const output = new MediaStreamAudioDestinationNode(context);
  oscillator.connect(volume).connect(output);
  oscillator.start();

  const [track] = output.stream.getAudioTracks();
  return {
    track,
    running: () => context.state === "running",
    async resume() {
      if (context.state !== "closed") await context.resume();
    },
    close() {
      track.stop();
      if (context.state !== "closed") context.close();
    },
  };
}
