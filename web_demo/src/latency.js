/** Latencies in milliseconds, with nearest-rank percentiles. */

/** @param {number[]} samples in the order of measurement @returns {{samples: number[], p50: number, p90: number}} */
export function timing(samples) {
  return { samples: [...samples], p50: nearestRank(samples, 50), p90: nearestRank(samples, 90) };
}

/** The sample at rank ceil(percent / 100 * count) of the sorted ones; 0 of none. */
export function nearestRank(samples, percent) {
  if (!samples.length) return 0;
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.ceil((percent * samples.length) / 100) - 1];
}

/** For people: three digits. */
export function milliseconds(value) {
  return `${value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2)} ms`;
}
