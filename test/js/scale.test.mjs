import assert from "node:assert/strict";
import { test } from "node:test";
import { areaPath, linePath, niceCeiling, place } from "../../assets/check/scale.js";

test("the top of a scale is round and not below the value", () => {
  const cases = [
    [0, 1], [-3, 1], [NaN, 1], [1, 1], [1.01, 2], [20.4, 30], [72, 80], [99, 100], [0.0021, 0.003],
    [0.3, 0.3], [6000, 6000],
  ];
  for (const [value, top] of cases) {
    assert.ok(Math.abs(niceCeiling(value) - top) < 1e-12, `${value} gives ${niceCeiling(value)}`);
  }
});

test("points are placed in their box, and never outside", () => {
  const box = { left: 10, top: 0, right: 110, bottom: 50 };
  const points = [{ at: 0, value: 0 }, { at: 500, value: 5 }, { at: 2000, value: 99 }];
  assert.deepEqual(place(points, box, { duration: 1000, max: 10 }), [[10, 50], [60, 25], [110, 0]]);
});

test("paths", () => {
  const pixels = [[0, 1], [2.25, 3]];
  assert.equal(linePath(pixels), "M0.0 1.0L2.3 3.0");
  assert.equal(areaPath(pixels, 9), "M0.0 1.0L2.3 3.0L2.3 9L0.0 9Z");
  assert.equal(linePath([]), "");
  assert.equal(areaPath([], 9), "");
});
