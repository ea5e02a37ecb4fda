"""How near two sets of class scores are."""

from __future__ import annotations

import numpy as np

from mobilevit_sdk.spec import Strict

SQNR_CEILING_DB = 200.0  # reported for outputs that are equal to the last bit; float32 resolves about 150 dB


class WorstMedian(Strict, frozen=True):
    """A metric over the cases."""

    worst: float
    median: float


class Agreement(Strict, frozen=True):
    """Agreement of an artefact with the reference over all cases."""

    cases: int
    sqnr_db: WorstMedian
    max_abs_diff: float  # over all cases and classes
    cosine: float  # of the worst case
    top1_agreement: float  # share of the cases with the same best class
    top5_agreement: float  # mean share of the reference's five best classes among the artefact's five best
    case_sqnr_db: tuple[float, ...]  # of each case, in order


def compare(reference: np.ndarray, outputs: np.ndarray) -> Agreement:
    """Compare class scores [cases, classes] with those of the reference; the arithmetic is float64.

    SQNR in dB: 10 log10(sum(reference**2) / sum((outputs - reference)**2)), of each case by itself. Raises ValueError
    for different shapes and for no cases; scores that are not finite give -SQNR_CEILING_DB.
    """
    if reference.shape != outputs.shape or not reference.size:
        raise ValueError(f"cannot compare scores of shape {outputs.shape} with {reference.shape}")
    expected, actual = reference.astype(np.float64), outputs.astype(np.float64)
    sqnr = np.array([_sqnr_db(e, a) for e, a in zip(expected, actual, strict=True)])
    finite = bool(np.isfinite(actual).all())
    top = min(5, expected.shape[1])
    best, found = (np.argsort(-scores, axis=1, kind="stable")[:, :top] for scores in (expected, actual))
    overlap = [len(set(b) & set(f)) / top for b, f in zip(best.tolist(), found.tolist(), strict=True)]
    return Agreement(
        cases=len(expected),
        sqnr_db=WorstMedian(worst=float(sqnr.min()), median=float(np.median(sqnr))),
        max_abs_diff=float(np.abs(actual - expected).max()) if finite else float(np.finfo(np.float64).max),
        cosine=min(_cosine(e, a) for e, a in zip(expected, actual, strict=True)) if finite else -1.0,
        top1_agreement=float((best[:, 0] == found[:, 0]).mean()),
        top5_agreement=float(np.mean(overlap)),
        case_sqnr_db=tuple(sqnr.tolist()),
    )


def _sqnr_db(expected: np.ndarray, actual: np.ndarray) -> float:
    if not np.isfinite(actual).all():
        return -SQNR_CEILING_DB
    signal, noise = float((expected**2).sum()), float(((actual - expected) ** 2).sum())
    if noise == 0:
        return SQNR_CEILING_DB
    if signal == 0:
        return -SQNR_CEILING_DB
    return float(np.clip(10 * np.log10(signal / noise), -SQNR_CEILING_DB, SQNR_CEILING_DB))


def _cosine(expected: np.ndarray, actual: np.ndarray) -> float:
    if np.array_equal(expected, actual):
        return 1.0
    norms = float(np.linalg.norm(expected) * np.linalg.norm(actual))
    return float(expected @ actual / norms) if norms else 0.0
