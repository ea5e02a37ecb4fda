/** Class scores: probabilities, the best classes, and how near answers are to those of the reference. */

const TIE_DB = 40; // no error above this one excuses another best class
const TIE_ERRORS = 3; // standard deviations
const CEILING_DB = 200; // for answers that are equal to the last bit

/** @param {ArrayLike<number>} scores @returns {Float64Array} probabilities, which sum to 1 */
export function softmax(scores) {
  const top = highest(scores);
  const powers = Float64Array.from(scores, (score) => Math.exp(score - top));
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
 * @param {Float32Array[]} reference by case
 * @param {Float32Array[]} answers
 * @param {{kind: string, counted: boolean[], classes: number}} options `kind` is that of an output in a manifest; `classes`,
 *   of a detector's scores, are those of a query
 * @returns {{worstDb: number, same: number | null, cases: number, objects: number | undefined}} `same` counts cases with
 *   the same best class, or with one that is as near as the error; of a detector's scores it counts queries, of the
 *   `objects` that find one in the reference. Features and boxes have no best class.
 */
export function compare(reference, answers, { kind, counted, classes }) {
  const expected = reference.map((row) => Float64Array.from(row)); // differences would be rounded to float32
  const actual = answers.map((row) => Float64Array.from(row));
  const noise = expected.map((row, i) => row.map((value, j) => actual[i][j] - value));
  const pairs = [[expected.map(energy), noise.map(energy)]];
  if (kind === "scores") {
    if (isBinary(expected)) pairs[0][0] = atLeast(pairs[0][0], mean(pairs[0][0]));
    pairs.push([decidingEnergies(expected), noise.map((row) => energy(deciding(row)))]);
  }
  if (kind === "query-scores") {
    const byQuery = (row) => queriesOf(row, classes).reduce((sum, query) => sum + energy(deciding(query)), 0);
    const signal = expected.map(byQuery);
    pairs.push([atLeast(signal, median(signal)), noise.map(byQuery)]);
  }
  const ratios = expected.map((_, i) => Math.min(...pairs.map(([signal, error]) => toDb(signal[i], error[i]))));
  const kept = [...expected.keys()].filter((i) => counted[i]);
  const ofKept = (rows) => kept.map((i) => rows[i]);
  const worstDb = ofKept(ratios).reduce((worst, ratio) => Math.min(worst, ratio), Infinity);
  if (kind === "query-scores") return { worstDb, ...sameObjects(ofKept(expected), ofKept(actual), classes), cases: kept.length };
  return { worstDb, same: kind !== "scores" || !kept.length ? null : sameBest(ofKept(expected), ofKept(actual)), cases: kept.length };
}

/** `sameBest` of the queries that find an object in the reference. */
function sameObjects(expected, actual, classes) {
  const [wanted, found] = [expected, actual].map((rows) => rows.flatMap((row) => queriesOf(row, classes)));
  const objects = [...wanted.keys()].filter((query) => wanted[query].indexOf(highest(wanted[query])) !== classes - 1);
  const of = (queries) => objects.map((query) => queries[query]);
  return { same: objects.length ? sameBest(of(wanted), of(found)) : null, objects: objects.length };
}

/** A row, query by query. */
function queriesOf(row, classes) {
  return Array.from({ length: row.length / classes }, (_, query) => row.subarray(query * classes, (query + 1) * classes));
}

/** How many cases have the same best class, one score the same sign, or a tie within the answers' own error. */
function sameBest(expected, actual) {
  const classes = expected[0].length;
  const finite = actual.map((row) => row.every(Number.isFinite));
  const wanted = expected.map((row, i) => (finite[i] ? row : row.map(() => 0)));
  const errors = wanted.map((row, i) => (finite[i] ? Math.sqrt(energy(deciding(row.map((value, j) => actual[i][j] - value))) / classes) : Infinity));
  const typical = TIE_ERRORS * median(errors);
  const allowed = decidingEnergies(wanted).map((signal) => 10 ** (-TIE_DB / 20) * Math.sqrt(signal / classes));
  return wanted.filter((row, i) => {
    if (!finite[i]) return false;
    const width = Math.min(typical, allowed[i]);
    if (classes === 1) return row[0] > 0 === actual[i][0] > 0 || Math.abs(row[0]) <= width;
    return highest(row) - row[actual[i].indexOf(highest(actual[i]))] <= width * Math.SQRT2; // of a difference of two
  }).length;
}

function highest(row) {
  return row.reduce((a, b) => Math.max(a, b), -Infinity);
}

/** Whether one number decides: a single score, or the difference of two. */
function isBinary(rows) {
  return rows[0].length <= 2;
}

function decidingEnergies(rows) {
  let values = rows.map(deciding);
  if (isBinary(rows) && rows.length > 1) {
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
