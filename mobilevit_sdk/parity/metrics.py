"""How near an artifact's answers are to the reference's: SQNR, cosine and the same best class.

What counts as signal is what an app reads from an answer. Of class scores that is what differs between the classes: an
offset that all of them share changes no decision, so that it may hide noise and must not count. Of one score (yes or
no, or a quantity), and of two, of which only the difference decides, it is what differs between the images: a single
image at the border between yes and no has no signal of its own, and a score that is the same for all images says
nothing. Of features and boxes it is everything; `parity.boxes` says what boxes differ by on a picture.
"""

from __future__ import annotations

import msgspec
import numpy as np

from mobilevit_sdk.spec import Kind, Strict

CEILING_DB = 200.0  # reported for values that are equal to the last bit; float32 resolves about 150 dB
MIN_SQNR_DB = 10.0  # below it, an answer is that of another function, and its speed is meaningless
# A tie is as near as the artifact's error, and no error above this one is an excuse: it is what fp16 may have.
TIE_DB = 40.0
TIE_ERRORS = 3.0  # standard deviations, which a random error seldom exceeds


class WorstMedian(Strict, frozen=True):
    """A metric over the cases."""

    worst: float
    median: float


class Agreement(Strict, frozen=True):
    """Agreement of an artifact with the reference over all cases that count.

    Features and boxes have no best class, and of one score the five best say nothing: None. Of a detector's scores, the
    share of the same best class is over the queries that find an object, and boxes have what a picture shows.
    """

    cases: int
    sqnr_db: WorstMedian  # see `compare`
    overall_sqnr_db: float  # of all cases together: over sums of the energies
    max_abs_diff: float  # over all cases and classes
    max_abs_diff_median: float  # over the cases, of the largest difference in each
    cosine: float  # of the worst case; of one score, the correlation over the cases
    cosine_median: float
    top1_agreement: float | None  # share of the cases with the same best class or a tie; of one score, the same sign
    top1_ties: int | None  # cases with another best class whose reference scores are as near as the artifact's error
    top5_agreement: float | None  # mean share of the reference's five best classes among the artifact's five best
    top5_worst: float | None  # the same in the worst case
    case_sqnr_db: tuple[float, ...]  # of each case, in order, also of those that do not count
    objects: int | msgspec.UnsetType = msgspec.UNSET  # queries that find an object in PyTorch's answers
    max_pixels: float | msgspec.UnsetType = msgspec.UNSET  # largest difference of a box, in pixels of the input
    worst_iou: float | msgspec.UnsetType | None = msgspec.UNSET  # of these objects' boxes; None: there are none


def compare(
    reference: np.ndarray, outputs: np.ndarray, *, kind: Kind = "scores", counted: np.ndarray | None = None
) -> Agreement:
    """Compare answers [cases, ...] with those of the reference; the arithmetic is float64.

    Scores are [cases, classes], with one class for a single score. The SQNR of a case is the lower of two: that of all
    scores as they are, and that of the scores minus their mean over the classes, in which a common offset is no signal.
    In the second, the signal of a case is at least the median over the cases: classes that come near each other on one
    image are no fault. Of one or two scores it is the square of what differs from the mean over the cases, and at least
    the variance. Features and boxes have the first alone. A detector's scores are [cases, queries, classes]: each query
    has its own mean, and one that finds no object, which the last class stands for, has no best class to keep.

    Of cases that are not `counted`, bool [cases], `case_sqnr_db` alone tells. Raises ValueError for other shapes, for
    no cases and for a reference that is not finite; outputs that are not finite give -CEILING_DB.
    """
    if reference.shape != outputs.shape or not reference.size:
        raise ValueError(f"cannot compare answers of shape {outputs.shape} with {reference.shape}")
    if not np.isfinite(reference).all():
        raise ValueError("cannot compare with a reference that is not finite")
    classes = reference.shape[-1] if kind == "query-scores" else 0
    expected, actual = (np.asarray(each, np.float64).reshape(len(each), -1) for each in (reference, outputs))
    finite = np.isfinite(actual).all(axis=1)  # [cases]
    largest = np.full(len(expected), np.finfo(np.float64).max)
    largest[finite] = np.abs(actual[finite] - expected[finite]).max(axis=1)
    sqnr = np.min([_ratios_db(*energies) for energies in _energies(expected, actual, kind, classes)], axis=0)
    everything = sqnr.tolist()
    if counted is not None:
        sqnr, largest, expected, actual = (each[counted] for each in (sqnr, largest, expected, actual))
    cosine = _cosines(expected, actual, kind)
    same = tied = overlap = None
    if kind == "query-scores":
        by_query = (each.reshape(-1, classes) for each in (expected, actual))
        same, tied = same_objects(*by_query)
    elif kind == "scores":
        same, tied = same_best(expected, actual)
        overlap = _overlaps(expected, actual) if expected.shape[1] > 1 else None
    return Agreement(
        cases=len(expected),
        sqnr_db=WorstMedian(worst=float(sqnr.min()), median=float(np.median(sqnr))),
        overall_sqnr_db=_overall_db(expected, actual, kind, classes),
        max_abs_diff=float(largest.max()),
        max_abs_diff_median=_median(largest),
        cosine=float(cosine.min()),
        cosine_median=_median(cosine),
        top1_agreement=None if same is None or tied is None or not same.size else float((same | tied).mean()),
        top1_ties=None if tied is None else int(tied.sum()),
        top5_agreement=None if overlap is None else float(overlap.mean()),
        top5_worst=None if overlap is None else float(overlap.min()),
        case_sqnr_db=tuple(everything),
        objects=same.size if kind == "query-scores" and same is not None else msgspec.UNSET,
    )


def same_best(expected: np.ndarray, actual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each case, of scores [cases, classes], has the same best class, and whether another one is a tie.

    One score has a sign instead. In a tie, the reference's scores of the two classes differ by no more than three times
    the artifact's error, the root mean square over the classes in the median case, nor than an error of TIE_DB.
    """
    finite = np.isfinite(actual).all(axis=1) & np.isfinite(expected).all(axis=1)
    expected, actual = (np.where(finite[:, None], scores, 0.0) for scores in (expected, actual))
    errors = np.where(finite, np.sqrt(np.square(_deciding(actual - expected)).mean(axis=1)), np.inf)
    allowed = 10 ** (-TIE_DB / 20) * np.sqrt(_deciding_energies(expected) / expected.shape[1])
    width = np.minimum(TIE_ERRORS * np.median(errors), allowed)  # [cases]
    if expected.shape[1] == 1:
        gap = np.where((expected > 0) == (actual > 0), 0, np.abs(expected))[:, 0]
    else:
        gap = expected.max(axis=1) - expected[np.arange(len(expected)), actual.argmax(axis=1)]
        width = width * np.sqrt(2)  # of the difference of two scores
    same = (gap == 0) & finite
    return same, ~same & (gap <= width) & finite


def finds_object(scores: np.ndarray) -> np.ndarray:
    """Which queries find an object, by their scores [..., classes]: those whose best class is not the last."""
    found: np.ndarray = scores.argmax(axis=-1) != scores.shape[-1] - 1
    return found


def same_objects(expected: np.ndarray, actual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`same_best` of those queries, of scores [queries, classes], that find an object in the reference."""
    found = finds_object(expected)
    if not found.any():
        return np.ones(0, bool), np.zeros(0, bool)
    return same_best(expected[found], actual[found])


def sqnr_db(reference: np.ndarray, values: np.ndarray) -> float:
    """Signal to quantization noise in dB: 10 log10(sum(reference**2) / sum((values - reference)**2)), in float64.

    Of any tensor, as it is. Within +-CEILING_DB; values that are not finite give -CEILING_DB.
    """
    reference = reference.astype(np.float64, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):  # an artifact may have overflown
        noise = values.astype(np.float64, copy=False) - reference
        return to_db(float((reference**2).sum()), float((noise**2).sum()))


def to_db(signal: float, noise: float) -> float:
    """The ratio of two sums of squares in dB, within +-CEILING_DB; noise that is not finite gives the lowest."""
    if not np.isfinite(noise):
        return -CEILING_DB
    if noise == 0:
        return CEILING_DB
    if signal == 0:
        return -CEILING_DB
    return float(np.clip(10 * np.log10(signal / noise), -CEILING_DB, CEILING_DB))


def _overall_db(expected: np.ndarray, actual: np.ndarray, kind: Kind, classes: int) -> float:
    energies = _energies(expected, actual, kind, classes, floor=False)
    return min(to_db(float(signal.sum()), float(noise.sum())) for signal, noise in energies)


def _ratios_db(signal: np.ndarray, noise: np.ndarray) -> list[float]:
    return [to_db(*pair) for pair in zip(signal.tolist(), noise.tolist(), strict=True)]


def _energies(
    expected: np.ndarray, actual: np.ndarray, kind: Kind, classes: int, *, floor: bool = True
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Sums of squares, [cases], of the signal and of the noise in each measure that applies."""
    with np.errstate(invalid="ignore", over="ignore"):  # an artifact may have overflown
        noise = actual - expected
        whole, errors = np.square(expected).sum(axis=1), np.square(noise).sum(axis=1)
        if kind in ("features", "boxes"):
            return [(whole, errors)]
        if kind == "query-scores":
            by_query = (each.reshape(len(each), -1, classes) for each in (expected, noise))
            signal, off = (np.square(each - each.mean(axis=2, keepdims=True)).sum(axis=(1, 2)) for each in by_query)
            return [(whole, errors), (np.maximum(signal, np.median(signal)) if floor else signal, off)]
        if _is_binary(expected):
            whole = np.maximum(whole, whole.mean()) if floor else whole
        deciding = _deciding_energies(expected, floor=floor), np.square(_deciding(noise)).sum(axis=1)
        return [(whole, errors), deciding]


def _deciding_energies(expected: np.ndarray, *, floor: bool = True) -> np.ndarray:
    """The sum of squares of what decides, [cases]."""
    deciding = _deciding(expected)
    spread = _is_binary(expected) and len(expected) > 1
    if spread:
        deciding = deciding - deciding.mean(axis=0)
    own: np.ndarray = np.square(deciding).sum(axis=1)
    typical = own.mean() if spread else np.median(own)  # the mean is the variance over the cases
    return np.maximum(own, typical) if floor else own


def _deciding(scores: np.ndarray) -> np.ndarray:
    """What decides between the classes: without what they have in common. One score stands as it is."""
    return scores if scores.shape[1] == 1 else scores - scores.mean(axis=1, keepdims=True)


def _is_binary(scores: np.ndarray) -> bool:
    """Whether one number decides: a single score, or the difference of two."""
    return scores.shape[1] <= 2


def _overlaps(expected: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """The share of the five best classes that are the same, [cases]."""
    top = min(5, expected.shape[1])
    best, found = (np.argsort(-scores, axis=1, kind="stable")[:, :top] for scores in (expected, actual))
    return np.array([len(set(b) & set(f)) / top for b, f in zip(best.tolist(), found.tolist(), strict=True)])


def _cosines(expected: np.ndarray, actual: np.ndarray, kind: Kind) -> np.ndarray:
    """The cosine of each case; of one score, the correlation over the cases."""
    if kind == "scores" and expected.shape[1] == 1 and len(expected) > 1:
        with np.errstate(invalid="ignore"):  # an artifact may have overflown
            expected, actual = ((each - each.mean()).T for each in (expected, actual))
    return np.array([_cosine(e, a) for e, a in zip(expected, actual, strict=True)])


def _cosine(expected: np.ndarray, actual: np.ndarray) -> float:
    if not np.isfinite(actual).all():
        return -1.0
    if np.array_equal(expected, actual):
        return 1.0
    norms = float(np.linalg.norm(expected) * np.linalg.norm(actual))
    return float(expected @ actual / norms) if norms else 0.0


def _median(values: np.ndarray) -> float:
    """The median, without overflow in the mean of two of the largest floats."""
    low, high = np.sort(values)[[(len(values) - 1) // 2, len(values) // 2]]
    return float(low / 2 + high / 2)
