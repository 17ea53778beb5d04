/** Measuring and pacing, with the time as an argument: milliseconds, from any fixed start. */

/**
 * The nearest-rank percentile (0 < p <= 100) of a list of numbers; null for an empty list.
 *
 * @param {number[]} values
 * @param {number} p
 */
export function percentile(values, p) {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const rank = Math.ceil((p / 100) * sorted.length);
  return sorted[Math.min(Math.max(rank, 1), sorted.length) - 1];
}

/** Count, extremes, median and 95th percentile of a list of numbers; null for an empty list. */
export function summarize(values) {
  if (values.length === 0) return null;
  return {
    count: values.length,
    min: Math.min(...values),
    median: percentile(values, 50),
    p95: percentile(values, 95),
    max: Math.max(...values),
  };
}

/** Bits per second over a sliding window. */
export class RateMeter {
  #samples = [];
  #first = null;
  #bytes = 0;

  /** @param {number} window milliseconds */
  constructor(window = 500) {
    this.window = window;
  }

  /** All bytes ever added. */
  get total() {
    return this.#bytes;
  }

  add(bytes, now) {
    this.#first ??= now;
    this.#bytes += bytes;
    this.#samples.push({ bytes, now });
  }

  /** The rate of the window that ends now; of the time since the first byte while that is less. */
  rate(now) {
    if (this.#first === null || now <= this.#first) return 0;
    const start = now - this.window;
    while (this.#samples.length > 0 && this.#samples[0].now <= start) this.#samples.shift();

    const bytes = this.#samples.reduce((sum, sample) => sum + sample.bytes, 0);
    return (bytes * 8000) / Math.min(this.window, now - this.#first);
  }
}

/** How many bytes may be sent now, at a steady rate with a bounded burst. */
export class TokenBucket {
  #tokens = 0;
  #filled = null;

  /**
   * @param {number} bitsPerSecond
   * @param {number} burst bytes that may pile up while nothing is taken
   */
  constructor(bitsPerSecond, burst) {
    this.bytesPerMs = bitsPerSecond / 8000;
    this.burst = burst;
  }

  /** Takes `bytes` if they may go now. */
  take(bytes, now) {
    const elapsed = this.#filled === null ? 0 : Math.max(0, now - this.#filled);
    this.#filled = now;
    this.#tokens = Math.min(this.burst, this.#tokens + elapsed * this.bytesPerMs);
    if (this.#tokens < bytes) return false;
    this.#tokens -= bytes;
    return true;
  }
}
