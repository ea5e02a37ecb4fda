"""The report as one HTML page, without scripts, links or anything that a browser would fetch."""

from __future__ import annotations

import platform
import string
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from mobilevit_sdk.artifacts.artifact import Manifest
from mobilevit_sdk.parity.gate import Verdict, counts, loosened
from mobilevit_sdk.parity.metrics import same_best
from mobilevit_sdk.parity.outcome import Divergence, Outcome
from mobilevit_sdk.parity.pairs import Pair
from mobilevit_sdk.parity.report import plots
from mobilevit_sdk.parity.report.pictures import SIDE, Pictures
from mobilevit_sdk.parity.runs import Run
from mobilevit_sdk.parity.views import views_of
from mobilevit_sdk.text import count, percent, shorten

WORST_CASES = 12  # listed of each run
TOP5_CASES = 4


def page(outcome: Outcome) -> str:
    """The report of an outcome."""
    import jinja2

    pictures = Pictures()
    divergences = {divergence.artifact: divergence for divergence in outcome.divergences}
    cards = [
        _card(key, verdict, run, None if verdict.device else divergences.get(verdict.artifact), pictures)
        for key, verdict, run in zip(_keys(), outcome.verdicts, outcome.runs, strict=False)
    ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["size"] = _size
    environment.filters["share"] = percent
    statuses = [verdict.status for verdict in outcome.verdicts]
    return environment.get_template("page.html.j2").render(
        outcome=outcome,
        facts=_facts(outcome),
        loosened=loosened(outcome.verdicts),
        cards=cards,
        counts={status: statuses.count(status) for status in ("passed", "failed", "error", "unavailable")},
        sizes=_sizes(outcome),
        pairs=_pair_table(outcome, cards),
        pictures=pictures.url(),
        side=SIDE,
        when=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        machine=f"{platform.system()} on {platform.machine()}",
    )


def _facts(outcome: Outcome) -> list[tuple[str, str]]:
    """What the page is about, as name and value: checkpoints, precisions, versions and images."""
    manifests = [run.artifact.manifest for run in outcome.runs]
    checkpoints = [_origin(manifest) for manifest in manifests]
    versions = [version for manifest in manifests if (version := manifest.tools.get("mobilevit-sdk"))]
    images = [
        f"{len(reference.cases)} from {reference.images or 'the stored reference vectors'}"
        for run in outcome.runs
        if (reference := run.reference)
    ]
    facts = {
        "checkpoint": checkpoints,
        "model": [manifest.spec.model for manifest in manifests],
        "devices": [run.device for run in outcome.runs if run.device],
        "precision": [manifest.precision for manifest in manifests],
        "converted by": [f"mobilevit-sdk {version}" for version in versions],
        "verified by": [f"mobilevit-sdk {metadata.version('mobilevit-sdk')}"],
        "images": images,
    }
    return [(name, shorten(list(dict.fromkeys(values)), 6)) for name, values in facts.items() if values]


def _origin(manifest: Manifest) -> str:
    origin = manifest.origin
    if origin.sha256 is None:
        return f"random weights, seed {origin.random_weights_seed}"
    source = Path(origin.source)
    return f"{source.name if source.is_absolute() else source} (SHA-256 {origin.sha256[:12]})"


def _keys() -> list[str]:
    """A short name for each run: A, B, ..., Z, A2, B2, ..."""
    return [f"{letter}{round_ or ''}" for round_ in (0, *range(2, 100)) for letter in string.ascii_uppercase]


def _card(key: str, verdict: Verdict, run: Run, divergence: Divergence | None, pictures: Pictures) -> dict[str, Any]:
    """The values that the template shows for a run."""
    manifest = run.artifact.manifest
    card: dict[str, Any] = {
        "key": key,
        "verdict": verdict,
        "manifest": manifest,
        "name": run.artifact.path.parent.name,
        "coverage": _coverage(manifest),
        "phone": run.facts,
        "plots": [],
        "outputs": [],
        "worst": [],
        "answers": [],
        "divergence": divergence if verdict.status == "failed" else None,
        "depth": plots.depth(divergence.operators, divergence.culprit) if divergence and divergence.operators else "",
    }
    if run.outputs is None or run.reference is None or verdict.agreement is None:
        return card
    sqnr = np.array(verdict.agreement.case_sqnr_db)
    order = np.argsort(sqnr, kind="stable").tolist()
    counted = counts(run.reference.cases, verdict.thresholds).tolist()
    views = views_of(manifest.spec, run.reference, run.outputs)
    drawn = {}
    for view in views:
        of_output = f" of {view.output.name}" if len(views) > 1 else ""
        expected, actual = view.flat
        drawn[f"Every {'score' if len(views) == 1 else 'value'}{of_output}"] = plots.scatter(
            expected, actual, view.output.kind
        )
        drawn[f"Differences{of_output}"] = plots.histogram(actual.astype(np.float64) - expected, view.output.kind)
    of_worst = f" of {verdict.worst_output}" if verdict.worst_output else ""
    drawn[f"Every case{of_worst}"] = plots.ranked(sqnr.tolist(), verdict.thresholds.sqnr_db)
    card["plots"] = [(title, plot) for title, plot in drawn.items() if plot]
    card["outputs"] = list((verdict.outputs or {}).items())
    card["worst"] = [
        {
            "name": run.reference.cases[i].name,
            "picture": pictures.style(run.reference.cases[i]),
            "sqnr_db": sqnr[i],
            "counts": counted[i],
        }
        for i in order[:WORST_CASES]
    ]
    scores = next((view for view in views if view.output.kind == "scores"), None)
    if scores is None:  # features have no best class
        return card
    labels, (expected, actual) = scores.output.labels, scores.flat
    same, tied = same_best(expected, actual)
    for i in _examples(order, ~same):
        case = run.reference.cases[i]
        card["answers"].append(
            {
                "name": case.name,
                "picture": pictures.style(case),
                "sqnr_db": sqnr[i],
                "same": bool(same[i]),
                "tied": bool(tied[i]),
                "counts": counted[i],
                "lists": [
                    ("PyTorch", _top5(expected[i], labels)),
                    (verdict.device or verdict.runtime, _top5(actual[i], labels)),
                ],
            }
        )
    return card


def _examples(order: list[int], changed: np.ndarray) -> list[int]:
    """Cases whose answers are shown: with another best class first, then the worst, the best and two in between."""
    spread = [order[round(share * (len(order) - 1))] for share in (0, 1, 0.5, 0.25)]
    return list(dict.fromkeys([i for i in order if changed[i]][: TOP5_CASES - 1] + spread))[:TOP5_CASES]


def _top5(scores: np.ndarray, labels: Sequence[str] | None) -> list[tuple[str, float]]:
    """Names and probabilities of the five best classes; of a single score, its sigmoid."""
    if not np.isfinite(scores).all():
        return []
    if len(scores) == 1:
        return [(labels[0] if labels else "yes", float(0.5 + 0.5 * np.tanh(scores[0].astype(np.float64) / 2)))]
    powers = np.exp(scores.astype(np.float64) - scores.max())
    best = np.argsort(-scores, kind="stable")[:5].tolist()
    return [(labels[i] if labels else f"class {i}", float(powers[i] / powers.sum())) for i in best]


def _coverage(manifest: Manifest) -> dict[str, Any]:
    """How much of the graph the accelerated backend runs; `share` is None where the device decides."""
    left = manifest.undelegated_ops
    if left is None:
        return {"share": None, "text": "the device decides what runs where", "left": {}}
    outside, total = sum(left.values()), sum(manifest.operators.values())
    calls = count(manifest.delegates or 0, "delegate call")
    return {
        "share": max(0.0, 1 - outside / max(1, total)),
        "text": f"{calls}, {outside} of {max(total, outside)} operators outside",
        "left": left,
    }


def _sizes(outcome: Outcome) -> list[tuple[str, int, float]]:
    """Name, bytes and share of the largest, of each artifact once."""
    sizes = {verdict.artifact: verdict.bytes for verdict in outcome.verdicts}
    largest = max(sizes.values(), default=1) or 1
    return [(Path(path).parent.name, size, size / largest) for path, size in sizes.items()]


def _pair_table(outcome: Outcome, cards: list[dict[str, Any]]) -> dict[str, Any]:
    """The pairs as a triangle: keys of the runs that are in one, and the pair of a row and a column."""
    key_of = {(card["verdict"].artifact, card["verdict"].place): card["key"] for card in cards}
    cells: dict[tuple[str, str], Pair] = {}
    for pair in outcome.pairs:
        first, second = pair.both
        cells[key_of[first], key_of[second]] = pair
    keys = [key for key in key_of.values() if any(key in both for both in cells)]
    return {"keys": keys, "cells": cells}


def _size(count: int) -> Markup:
    return Markup(f"{count / 1e6:.2f}&nbsp;MB" if count >= 1e5 else f"{count / 1e3:.1f}&nbsp;kB")
