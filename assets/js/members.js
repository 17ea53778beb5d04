import { readId } from "./signal.js";

/**
 * Who is in a room besides oneself, from Phoenix Presence (presence_state, presence_diff) and from
 * the channel's own peer_joined and peer_left, which may come earlier or later than Presence.
 *
 * A peer_left counts at once, since its sender is gone. Should Presence show afterwards that the
 * user is there in another tab still, the user is a member again.
 */
export class Members {
  #self;
  /** user id -> {present: boolean, metas: Map<phx_ref, meta>} */
  #users = new Map();

  /** @param {string} self one's own user id, which is never a member */
  constructor(self) {
    this.#self = self;
  }

  /** @returns {string[]} user ids */
  get ids() {
    return [...this.#users].filter(([, user]) => user.present).map(([id]) => id);
  }

  has(userId) {
    return this.#users.get(userId)?.present ?? false;
  }

  /** What Presence tells of a member last: {muted, deafened, ...}; {} when it told nothing. */
  meta(userId) {
    return [...(this.#users.get(userId)?.metas.values() ?? [])].at(-1) ?? {};
  }

  /** Takes the whole list, in place of what was known. */
  sync(state) {
    this.#users.clear();
    this.#enter(state);
  }

  /** Takes {joins, leaves}. An update of a meta is one of both. */
  diff(change) {
    this.#enter(change?.joins);
    for (const [id, refs] of entries(change?.leaves)) {
      const user = this.#users.get(id);
      for (const ref of refs.keys()) user?.metas.delete(ref);
      if (user?.metas.size === 0) this.#users.delete(id);
      else if (user) user.present = true;
    }
  }

  add(userId) {
    if (userId !== this.#self) this.#user(userId).present = true;
  }

  remove(userId) {
    const user = this.#users.get(userId);
    if (user) user.present = false;
  }

  #enter(list) {
    for (const [id, metas] of entries(list)) {
      if (id === this.#self) continue;
      const user = this.#user(id);
      user.present = true;
      for (const [ref, meta] of metas) {
        user.metas.delete(meta.phx_ref_prev);
        user.metas.set(ref, meta);
      }
    }
  }

  #user(id) {
    if (!this.#users.has(id)) this.#users.set(id, { present: true, metas: new Map() });
    return this.#users.get(id);
  }
}

// [user id, Map of phx_ref to meta] of {id: {metas: [...]}}, without what has another shape.
function entries(list) {
  return Object.entries(list ?? {}).flatMap(([key, value]) => {
    const id = readId(key);
    if (id === null || !Array.isArray(value?.metas)) return [];
    const metas = value.metas.filter((meta) => typeof meta?.phx_ref === "string");
    return metas.length > 0 ? [[id, new Map(metas.map((meta) => [meta.phx_ref, meta]))]] : [];
  });
}
