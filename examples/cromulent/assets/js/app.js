import "phoenix_html";
import { Socket } from "phoenix";
import { LiveSocket } from "phoenix_live_view";
import { createVoiceHook } from "cromulent_turn";

const Voice = createVoiceHook({
  createSocket: (token) => new Socket("/socket", { params: { token } }),
  pushConnecting: true,
  onError: (error) => console.warn("voice:", error.message),
});

/** Empties the field once its text is on its way. */
const Say = {
  mounted() {
    this.el.addEventListener("submit", () => setTimeout(() => this.el.reset()));
  },
};

const csrfToken = document.querySelector("meta[name='csrf-token']").content;
const liveSocket = new LiveSocket("/live", Socket, {
  params: { _csrf_token: csrfToken },
  hooks: { Voice, Say },
});
liveSocket.connect();
