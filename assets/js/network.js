/**
 * Tells when the way to the internet may be another: the browser is online again, the device has
 * gone from one kind of network to another, or the page is looked at again (after sleep, say).
 *
 * @param {() => void} onChange
 * @param {object} [globals] what a browser has: window's events, navigator.connection, document
 * @returns {() => void} ends it
 */
export function watchNetwork(onChange, globals = globalThis) {
  const { document, navigator } = globals;
  const connection = navigator?.connection;
  let type = connection?.type;

  const onOnline = () => onChange();
  const onVisible = () => document.visibilityState === "visible" && onChange();
  // Its other changes are estimates of speed.
  const onConnection = () => {
    if (connection.type === type) return;
    type = connection.type;
    onChange();
  };
  const all = [
    [globals, "online", onOnline],
    [document, "visibilitychange", onVisible],
    [connection, "change", onConnection],
  ].filter(([target]) => typeof target?.addEventListener === "function");
  for (const [target, event, take] of all) target.addEventListener(event, take);
  return () => {
    for (const [target, event, take] of all) target.removeEventListener(event, take);
  };
}
