import { createSpeaker } from "./speaker.js";
import { watchTalkKeys } from "./talk_keys.js";
import { VoiceRoom } from "./voice_room.js";
import { VoiceSession } from "./voice_session.js";

/**
 * @typedef {object} HookOptions
 * @property {object} [socket] a Phoenix Socket of the app's, connected; the hook leaves it as it is
 * @property {(token: string) => object} [createSocket] else: makes a Socket from the `user_token` of
 *   "voice:join"; the hook connects it, and disconnects it when it is done
 * @property {object} [room] more options for every VoiceRoom (see VoiceOptions); its callbacks are
 *   called besides the hook's own
 * @property {string} [talkKey] push-to-talk key (KeyboardEvent.key), the space bar
 * @property {string} [talkButton] selector of push-to-talk buttons, "[data-voice-talk]"
 * @property {boolean} [pushConnecting] tell LiveView "connecting" as well
 * @property {(error: Error) => void} [onError]
 */

/**
 * A LiveView hook that carries voice between LiveView and a VoiceRoom.
 *
 * From LiveView: "voice:join" {channel_id, user_token, user_id, ice_servers, voice_mode,
 * mic_device_id, speaker_device_id}, "voice:leave" {}, "voice:set_mute" {muted}, "voice:set_deafen"
 * {deafened, muted}. To LiveView: "voice_state_changed" {state: "connected"|"disconnected", channel_id},
 * with the `reason` of a "disconnected".
 *
 *     const Hooks = { Voice: createVoiceHook({ createSocket }) };
 *     // <div id="voice" phx-hook="Voice"></div>
 *
 * The element must stay in the page as long as the call: removed, it leaves. While LiveView itself
 * is disconnected the call goes on; a "voice:join" for the room one is in changes nothing.
 *
 * @param {HookOptions} options
 */
export function createVoiceHook(options) {
  if (!options?.socket && !options?.createSocket) {
    throw new TypeError("createVoiceHook needs a socket or createSocket(token)");
  }
  // LiveView copies these functions to an object per element, which keeps the state.
  return {
    mounted() {
      this.voice = new Voice(options, (event, payload) => push(this, event, payload));
      this.handleEvent("voice:join", (payload) => this.voice.join(payload));
      this.handleEvent("voice:leave", () => this.voice.leave());
      this.handleEvent("voice:set_mute", (payload) => this.voice.setMute(payload));
      this.handleEvent("voice:set_deafen", (payload) => this.voice.setDeafen(payload));
    },
    reconnected() {
      this.voice.tell();
    },
    destroyed() {
      this.voice.destroy();
    },
  };
}

// Without a server there is nobody to tell; `reconnected` tells then.
function push(hook, event, payload) {
  try {
    Promise.resolve(hook.pushEvent(event, payload, () => undefined)).catch(() => undefined);
  } catch {
    // Versions differ in how they say that there is no server: false, a rejected promise, an error.
  }
}

/** The state of one hook element. */
class Voice {
  #options;
  #push;
  #session;
  #place = null; // {channelId, userId} one is in or on the way to
  #socket = null;
  #token = null;
  #speaker;
  #stopKeys = null;
  #muted = false;
  #deafened = false;

  constructor(options, push) {
    this.#options = options;
    this.#push = push;
    this.#session = new VoiceSession((error) => this.#failed(error));
    this.#speaker = createSpeaker({ onError: (error) => this.#options.onError?.(error) });
  }

  /** The VoiceRoom, or null. */
  get room() {
    return this.#session.room;
  }

  join(payload) {
    const [channelId, userId] = [String(payload.channel_id), String(payload.user_id)];
    if (this.#isIn(channelId, userId)) return this.#stay(payload.ice_servers);

    const place = { channelId, userId };
    this.#place = place;
    this.#speaker.setDevice(payload.speaker_device_id || null);
    return this.#session.join(() => this.#makeRoom(place, payload));
  }

  async leave() {
    this.#place = null;
    this.#stopKeys?.();
    await this.#session.leave();
    if (!this.#place) this.#hangUp();
  }

  setMute({ muted }) {
    this.#muted = Boolean(muted);
    this.room?.setMuted(this.#muted);
  }

  setDeafen({ deafened, muted }) {
    this.#deafened = Boolean(deafened);
    this.room?.setDeafened(this.#deafened);
    if (muted !== undefined) this.setMute({ muted });
  }

  /** Tells LiveView, which may be new, how things are. */
  tell() {
    const { room } = this;
    if (room?.state) this.#tellState(room.channelId, room.state, room.reason);
  }

  async destroy() {
    this.#push = () => undefined;
    await this.leave();
    this.#speaker.close();
  }

  #isIn(channelId, userId) {
    const at = this.#place;
    if (at?.channelId !== channelId || at.userId !== userId) return false;
    return !this.room || !(this.room.ended || this.room.reason === "peer_failed");
  }

  #stay(iceServers) {
    if (iceServers) this.room?.setIceServers(iceServers);
    this.tell();
  }

  // A room tells its state itself; here it may be that none could be made.
  #failed(error) {
    this.#options.onError?.(error);
    if (this.room || !this.#place) return;
    const { channelId } = this.#place;
    this.#place = null;
    this.#tellState(channelId, "disconnected", error.reason ?? "failed");
  }

  #makeRoom(place, payload) {
    const { channelId, userId } = place;
    const servers = payload.ice_servers ?? null;
    const room = new VoiceRoom(channelId, userId, this.#connect(payload.user_token), servers, {
      ...this.#options.room,
      ...this.#calls(place),
      mode: payload.voice_mode === "ptt" ? "ptt" : "voice",
      deviceId: payload.mic_device_id || null,
    });
    room.setMuted(this.#muted);
    room.setDeafened(this.#deafened);
    this.#watchKeys(room, payload.voice_mode);
    return room;
  }

  #calls(place) {
    const { onState, onStream } = this.#options.room ?? {};
    return {
      onState: (state, detail) => {
        if (this.#place === place) this.#tellState(place.channelId, state, detail.reason);
        onState?.(state, detail);
      },
      onStream: (userId, stream) => {
        this.#speaker.play(userId, stream);
        onStream?.(userId, stream);
      },
    };
  }

  #watchKeys(room, mode) {
    this.#stopKeys?.();
    this.#stopKeys = null;
    if (mode !== "ptt") return;
    const { talkKey: key, talkButton: button } = this.#options;
    this.#stopKeys = watchTalkKeys((talking) => room.setTalking(talking), { key, button });
  }

  #connect(token) {
    if (this.#options.socket) return this.#options.socket;
    if (this.#socket && this.#token === token) return this.#socket;
    this.#hangUp();
    this.#token = token;
    this.#socket = this.#options.createSocket(token);
    if (!this.#socket.isConnected()) this.#socket.connect();
    return this.#socket;
  }

  #hangUp() {
    this.#socket?.disconnect();
    this.#socket = null;
  }

  // A LiveView that was mounted anew learns by this where its page is.
  #tellState(channelId, state, reason) {
    if (state === "connecting" && !this.#options.pushConnecting) return;
    const payload = { state, channel_id: channelId };
    this.#push("voice_state_changed", reason ? { ...payload, reason } : payload);
  }
}
