import "phoenix_html";
import { Socket } from "phoenix";
import { LiveSocket } from "phoenix_live_view";
import { Voice } from "./voice";

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
