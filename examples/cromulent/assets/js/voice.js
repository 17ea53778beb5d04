import { Socket } from "phoenix";
import { createVoiceHook } from "cromulent_turn";

/** The hook of the voice bar: it carries what the LiveView and the page's voice tell one another. */
export const Voice = createVoiceHook({
  createSocket: (token) => new Socket("/socket", { params: { token } }),
  pushConnecting: true,
  onError: (error) => console.warn("voice:", error.message),
});
