"""How near two sets of class scores are."""

from __future__ import annotations

import numpy as np

from mobilevit_sdk.spec import Strict

CEILING_DB = 200.0  # reported for values that are equal to the last bit; float32 resolves about 150 dB


class WorstMedian(Strict, frozen=True):
    """A metric over the cases."""

    worst: float
    median: float


class Agreement(Strict, frozen=True):
    """Agreement of an artifact with the reference over all cases."""

    cases: int
    sqnr_db: WorstMedian
    max_abs_diff: float  # over all cases and classes
    max_abs_diff_median: float  # over the cases, of the largest difference in each
    cosine: float  # of the worst case
    cosine_median: float
    top1_agreement: float  # share of the cases with the same best class
    top5_agreement: float  # mean share of the reference's five best classes among the artifact's five best
    top5_worst: float  # that share in the worst case
    case_sqnr_db: tuple[float, ...]  # of each case, in order


def compare(reference: np.ndarray, outputs: np.ndarray) -> Agreement:
    """Compare class scores [cases, classes] with those of the reference; the arithmetic is float64.

    SQNR is computed for each case alone. Raises ValueError for different shapes, for no cases and for a reference that
    is not finite; outputs that are not finite give -CEILING_DB.
    """
    if reference.shape != outputs.shape or not reference.size:
        raise ValueError(f"cannot compare scores of shape {outputs.shape} with {reference.shape}")
    if not np.isfinite(reference).all():
        raise ValueError("cannot compare with a reference that is not finite")
    expected, actual = reference.astype(np.float64), outputs.astype(np.float64)
    sqnr = np.array([sqnr_db(e, a) for e, a in zip(expected, actual, strict=True)])
    finite = np.isfinite(actual).all(axis=1)  # [cases]
    largest = np.full(len(expected), np.finfo(np.float64).max)
    largest[finite] = np.abs(actual[finite] - expected[finite]).max(axis=1)
    cosine = np.array([_cosine(e, a) for e, a in zip(expected, actual, strict=True)])
    top = min(5, expected.shape[1])
    best, found = (np.argsort(-scores, axis=1, kind="stable")[:, :top] for scores in (expected, actual))
    overlap = np.array([len(set(b) & set(f)) / top for b, f in zip(best.tolist(), found.tolist(), strict=True)])
    return Agreement(
        cases=len(expected),
        sqnr_db=WorstMedian(worst=float(sqnr.min()), median=float(np.median(sqnr))),
        max_abs_diff=float(largest.max()),
        max_abs_diff_median=_median(largest),
        cosine=float(cosine.min()),
        cosine_median=_median(cosine),
        top1_agreement=float((best[:, 0] == found[:, 0]).mean()),
        top5_agreement=float(overlap.mean()),
        top5_worst=float(overlap.min()),
        case_sqnr_db=tuple(sqnr.tolist()),
    )


def sqnr_db(reference: np.ndarray, values: np.ndarray) -> float:
    """Signal to quantization noise in dB: 10 log10(sum(reference**2) / sum((values - reference)**2)), in float64.

    Within +-CEILING_DB; values that are not finite give -CEILING_DB.
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


def _median(values: np.ndarray) -> float:
    """Without the overflow of a mean of two of the largest floats."""
    low, high = np.sort(values)[[(len(values) - 1) // 2, len(values) // 2]]
    return float(low / 2 + high / 2)


def _cosine(expected: np.ndarray, actual: np.ndarray) -> float:
    if not np.isfinite(actual).all():
        return -1.0
    if np.array_equal(expected, actual):
        return 1.0
    norms = float(np.linalg.norm(expected) * np.linalg.norm(actual))
    return float(expected @ actual / norms) if norms else 0.0
