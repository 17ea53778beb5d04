/**
 * Push to talk by a key, and by a button for those who have none.
 *
 * @param {(talking: boolean) => void} onTalking
 * @param {object} [options]
 * @param {string} [options.key] as of KeyboardEvent.key; while one types it is a letter like others
 * @param {string} [options.button] selector of elements that talk while they are pressed
 * @param {EventTarget} [options.target] window
 * @returns {() => void} ends it
 */
export function watchTalkKeys(onTalking, options = {}) {
  const { key = " ", button = "[data-voice-talk]", target = globalThis.window } = options;
  const isButton = ({ target: element }) => element?.closest?.(button);
  const on = (event) => {
    event.preventDefault(); // neither scroll nor select
    onTalking(true);
  };
  const off = () => onTalking(false);
  const handlers = {
    keydown: (event) => event.key === key && !event.repeat && !isTyping(event) && on(event),
    keyup: (event) => event.key === key && off(),
    pointerdown: (event) => isButton(event) && on(event),
    pointerup: off,
    pointercancel: off,
    blur: off, // the key's release goes to another window
  };
  for (const [event, take] of Object.entries(handlers)) target.addEventListener(event, take);
  return () => {
    for (const [event, take] of Object.entries(handlers)) target.removeEventListener(event, take);
  };
}

function isTyping({ target }) {
  return Boolean(target?.closest?.("input, textarea, select, [contenteditable]"));
}
