/** Class scores: probabilities, the best classes, and how near answers are to those of the reference. */

const CEILING_DB = 200; // for answers that are equal to the last bit

/** @param {ArrayLike<number>} scores @returns {Float64Array} probabilities, which sum to 1 */
export function softmax(scores) {
  const highest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = Float64Array.from(scores, (score) => Math.exp(score - highest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

/** The `k` best classes, best first; of equal scores the first one. @returns {{index: number, share: number}[]} */
export function best(scores, k) {
  const shares = softmax(scores);
  const order = [...shares.keys()].sort((a, b) => scores[b] - scores[a] || a - b);
  return order.slice(0, k).map((index) => ({ index, share: shares[index] }));
}

/**
 * How near answers are to the reference's, as `mobilevit verify` measures it: of the SQNR of all scores and that of what
 * differs between the classes the lower one, in the worst case that counts.
 * @param {Float32Array[]} expected by case
 * @param {Float32Array[]} actual
 * @param {{features: boolean, counted: boolean[]}} options features have no best class
 * @returns {{worstDb: number, same: number | null, cases: number}} `same` counts cases with the same best class
 */
export function compare(expected, actual, { features, counted }) {
  const noise = expected.map((row, i) => row.map((value, j) => actual[i][j] - value));
  const pairs = [[expected.map(energy), noise.map(energy)]];
  if (!features) {
    const binary = expected[0].length <= 2;
    if (binary) pairs[0][0] = atLeast(pairs[0][0], mean(pairs[0][0]));
    pairs.push([decidingEnergies(expected, binary), noise.map((row) => energy(deciding(row)))]);
  }
  const ratios = expected.map((_, i) => Math.min(...pairs.map(([signal, error]) => toDb(signal[i], error[i]))));
  const kept = expected.map((_, i) => i).filter((i) => counted[i]);
  return {
    worstDb: kept.reduce((worst, i) => Math.min(worst, ratios[i]), Infinity),
    same: features ? null : kept.filter((i) => sameBest(expected[i], actual[i])).length,
    cases: kept.length,
  };
}

function sameBest(expected, actual) {
  if (!actual.every(Number.isFinite)) return false;
  if (expected.length === 1) return expected[0] > 0 === actual[0] > 0;
  return expected[actual.indexOf(Math.max(...actual))] === Math.max(...expected);
}

function decidingEnergies(rows, binary) {
  let values = rows.map(deciding);
  if (binary && rows.length > 1) {
    const middle = [...values[0].keys()].map((j) => mean(values.map((row) => row[j])));
    values = values.map((row) => row.map((value, j) => value - middle[j]));
    const own = values.map(energy);
    return atLeast(own, mean(own));
  }
  const own = values.map(energy);
  return atLeast(own, median(own));
}

/** What decides between the classes: without what they have in common. One score stands as it is. */
function deciding(row) {
  if (row.length === 1) return Float64Array.from(row);
  const middle = mean(row);
  return Float64Array.from(row, (value) => value - middle);
}

function energy(row) {
  return row.reduce((sum, value) => sum + value * value, 0);
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

function atLeast(values, least) {
  return values.map((value) => Math.max(value, least));
}

function toDb(signal, noise) {
  if (!Number.isFinite(noise)) return -CEILING_DB;
  if (noise === 0) return CEILING_DB;
  if (signal === 0) return -CEILING_DB;
  return Math.min(CEILING_DB, Math.max(-CEILING_DB, 10 * Math.log10(signal / noise)));
}
