import assert from "node:assert/strict";
import { test } from "node:test";
import { percentile, RateMeter, summarize, TokenBucket } from "../../assets/js/meter.js";

test("percentiles are values of the list, by nearest rank", () => {
  const values = [50, 15, 40, 20, 35];
  const cases = [[5, 15], [30, 20], [40, 20], [50, 35], [95, 50], [100, 50]];
  for (const [p, expected] of cases) assert.equal(percentile(values, p), expected, `p${p}`);
  assert.equal(percentile([], 50), null);
  assert.deepEqual(values, [50, 15, 40, 20, 35], "the list is left as it was");
});

test("percentiles sort numbers as numbers", () => {
  assert.equal(percentile([9, 10, 100], 50), 10);
});

test("a summary", () => {
  const values = Array.from({ length: 100 }, (_, i) => 100 - i);
  assert.deepEqual(summarize(values), { count: 100, min: 1, median: 50, p95: 95, max: 100 });
  assert.equal(summarize([]), null);
});

test("a rate over a window that slides", () => {
  const meter = new RateMeter(500);
  assert.equal(meter.rate(0), 0);
  for (let now = 0; now <= 2000; now += 10) meter.add(1250, now);
  assert.equal(meter.rate(2000), 1_000_000);
  assert.equal(meter.rate(2250), 500_000, "half of the window is empty");
  assert.equal(meter.rate(2501), 0);
  assert.equal(meter.total, 201 * 1250);
});

test("a rate before the window is full counts the time there was", () => {
  const meter = new RateMeter(500);
  meter.add(1000, 0);
  assert.equal(meter.rate(0), 0, "no time, no rate");
  meter.add(1000, 100);
  assert.equal(meter.rate(100), 160_000);
});

test("a token bucket lets its rate through, whatever the steps", () => {
  for (const step of [1, 10, 35]) {
    const bucket = new TokenBucket(8_000_000, 50_000);
    let sent = 0;
    for (let now = 0; now <= 10_000; now += step) while (bucket.take(1000, now)) sent += 1000;
    assert.ok(sent > 9_900_000 && sent <= 10_000_000, `${sent} bytes in steps of ${step} ms`);
  }
});

test("a token bucket saves up no more than its burst", () => {
  const bucket = new TokenBucket(8_000_000, 5000);
  assert.equal(bucket.take(1, 0), false, "it starts empty");
  let burst = 0;
  while (bucket.take(1000, 60_000)) burst += 1;
  assert.equal(burst, 5);
  assert.equal(bucket.take(1000, 59_000), false, "time that runs backwards gives nothing");
});
