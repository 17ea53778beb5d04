/** One line per test, the reason under each that failed, and the count as the last line. */
export default async function* report(events) {
  let [passed, failed] = [0, 0];
  for await (const { type, data } of events) {
    if (type === "test:stdout" || type === "test:stderr") yield data.message;
    if (type !== "test:pass" && type !== "test:fail") continue;
    if (/name does not match/.test(data.skip)) continue; // --test-name-pattern
    // A test that is skipped has not passed: there are none, and there shall be none.
    const ok = type === "test:pass" && data.skip === undefined && data.todo === undefined;
    const seconds = (data.details.duration_ms / 1000).toFixed(1);
    if (ok) passed += 1;
    else failed += 1;
    yield `${ok ? "ok    " : "FAILED"}  ${data.name} (${seconds} s)\n`;
    if (!ok) yield `${reason(data.details.error)}\n`;
  }
  yield `${passed} passed, ${failed} failed\n`;
}

function reason(error) {
  const cause = error?.cause ?? error;
  return String(cause?.stack ?? cause).replace(/^/gm, "        ");
}
