/** The browser side of cromulent_turn: plain ES modules, no bundler and no dependency needed. */
export { parseCandidate, isHidden } from "./candidate.js";
export { initialState, reduce, verdict, steps } from "./check_state.js";
export { checkIceServers, parseIceUrl } from "./ice_servers.js";
export { gatherCandidates, iceError } from "./ice_probe.js";
export { CallError, LoopbackCall } from "./loopback_call.js";
export { RateMeter, TokenBucket, percentile, summarize } from "./meter.js";
export { audioReceived, isRelayed, selectedPair } from "./stats.js";
export { createTone } from "./tone.js";
export { createSpeaker } from "./speaker.js";
export { runCheck } from "./turn_check.js";
export { VoiceError } from "./voice_error.js";
export { createVoiceHook } from "./voice_hook.js";
export { VoiceRoom } from "./voice_room.js";
