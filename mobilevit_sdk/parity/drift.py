"""What became worse since an earlier run of the gate, even within the thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import decode_json, read_text
from mobilevit_sdk.parity.gate import Verdict
from mobilevit_sdk.parity.metrics import Agreement, WorstMedian
from mobilevit_sdk.parity.runs import place
from mobilevit_sdk.spec import Strict
from mobilevit_sdk.text import one_line, percent

# Another processor or order of summation moves a rounding error by one or two dB; twice the error is 6 dB.
SQNR_FALL_DB = 6.0
FLOAT32_FLOOR_DB = 120.0  # above it, a difference is float32's own rounding
SIZE_GROWTH = 0.01  # of the file: metadata and tool versions may add this much
TOP5_FALL = 0.01  # equal scores at the fifth place may swap with the sixth


class Worse(Strict, frozen=True):
    """One thing that is worse than in the baseline."""

    artifact: str
    runtime: str
    device: str | None  # the phone; None: this machine
    metric: str
    before: str | float | int | None
    now: str | float | int | None
    message: str

    @property
    def place(self) -> str:
        """Where it ran, in words: the runtime, and the phone."""
        return place(self.runtime, self.device)


class Drift(Strict, frozen=True):
    """What became worse since `baseline`, and what could not be compared with it."""

    baseline: str
    worse: tuple[Worse, ...]
    notes: tuple[str, ...]
    compared: int  # verdicts that are in both


class _Answers(msgspec.Struct, frozen=True):
    """What is read of one output."""

    sqnr_db: WorstMedian
    top1_agreement: float | None = None
    top5_agreement: float | None = None


class _Row(msgspec.Struct, frozen=True):
    """What is read from an earlier verdict; None for what an older release did not write."""

    artifact: str
    precision: str
    runtime: str
    status: str
    sqnr_db: WorstMedian | None = None
    top1_agreement: float | None = None
    top5_agreement: float | None = None
    bytes: int | None = None
    delegates: int | None = None
    undelegated_ops: dict[str, int] | None = None
    cases_sha256: str | None = None
    device: str | None = None
    outputs: dict[str, _Answers] | None = None  # where there are several

    @property
    def place(self) -> str:
        return place(self.runtime, self.device)


class _Document(msgspec.Struct, frozen=True):
    verdicts: list[_Row]


@dataclass(frozen=True)
class VerdictBaseline:
    """The verdicts of an earlier run, and their file."""

    path: Path
    rows: tuple[_Row, ...]


def read_baseline(path: Path) -> VerdictBaseline:
    """Read an earlier verdicts.json, or the output of `verify --json`. Raises RequestError for any other file."""
    try:
        found = decode_json(read_text(path), _Document)
    except FileNotFoundError:
        raise RequestError(f"{path} does not exist; give a verdicts.json that a report holds") from None
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} is not a verdicts.json of this SDK ({one_line(str(error))})") from error
    return VerdictBaseline(path, tuple(found.verdicts))


def compare_with_baseline(verdicts: Sequence[Verdict], baseline: VerdictBaseline) -> Drift:
    """What is worse than in the baseline. Artifacts correspond by the names of their folder and file."""
    rows = baseline.rows
    worse: list[Worse] = []
    notes: list[str] = []
    compared = 0
    for verdict in verdicts:
        name = f"{_label(verdict.artifact)} on {verdict.place}"
        found = [row for row in rows if row.place == verdict.place and _key(row.artifact) == _key(verdict.artifact)]
        if len(found) > 1:
            found = [row for row in found if row.artifact == verdict.artifact] or found
        if len(found) != 1 or found[0].precision != verdict.precision:
            why = "is in the baseline more than once" if found else "is not in the baseline"
            notes.append(f"{name} {why}")
            continue
        compared += 1
        changes, other = _compare(found[0], verdict)
        worse += [
            Worse(
                artifact=verdict.artifact,
                runtime=verdict.runtime,
                device=verdict.device,
                metric=metric,
                before=before,
                now=now,
                message=one_line(message),
            )
            for metric, before, now, message in changes
        ]
        notes += [f"{name}: {note}" for note in other]
    present = {(_key(verdict.artifact), verdict.place) for verdict in verdicts}
    for row in rows:
        if (_key(row.artifact), row.place) not in present:
            notes.append(one_line(f"{_label(row.artifact)} on {row.place} is in the baseline and was not verified"))
    return Drift(baseline=str(baseline.path), worse=tuple(worse), notes=tuple(notes), compared=compared)


_Change = tuple[str, str | float | int | None, str | float | int | None, str]


def _compare(before: _Row, now: Verdict) -> tuple[list[_Change], list[str]]:
    """What is worse, and notes on what could not be compared."""
    changes: list[_Change] = []
    notes: list[str] = []
    ran = ("passed", "failed")
    if before.status in ran and now.status not in ran:
        changes.append(("status", before.status, now.status, f"no longer runs: {now.reason}"))
    elif before.status == "passed" and now.status == "failed":
        changes.append(("status", "passed", "failed", f"no longer passes: {now.reason}"))
    if now.agreement and before.sqnr_db:
        if before.cases_sha256 == now.cases_sha256:
            changes += _compare_agreement(before, now)
        else:
            notes.append("the baseline was made with other images, so agreement was not compared")
    if before.bytes and now.bytes > before.bytes * (1 + SIZE_GROWTH):
        grown = f"the file grew from {before.bytes:,} to {now.bytes:,} bytes ({now.bytes / before.bytes - 1:+.1%})"
        changes.append(("bytes", before.bytes, now.bytes, grown))
    if before.undelegated_ops is not None and now.undelegated_ops is not None:
        old, new = before.undelegated_ops, now.undelegated_ops
        left = [f"{name} {old.get(name, 0)} -> {count}" for name, count in new.items() if count > old.get(name, 0)]
        if sum(new.values()) > sum(old.values()):
            text = f"operators left the delegate: {', '.join(left)}"
            changes.append(("undelegated_ops", sum(old.values()), sum(new.values()), text))
    if before.delegates is not None and now.delegates is not None and now.delegates > before.delegates:
        text = f"the graph is cut into {now.delegates} delegate calls instead of {before.delegates}"
        changes.append(("delegates", before.delegates, now.delegates, text))
    return changes, notes


def _compare_agreement(before: _Row, now: Verdict) -> list[_Change]:
    """Of each output, where both have several."""
    assert now.agreement is not None
    if not (before.outputs and now.outputs):
        return _changes(before, now.agreement)
    return [
        (f"outputs.{name}.{metric}", old, new, f"{name}: {message}")
        for name, agreement in now.outputs.items()
        if name in before.outputs
        for metric, old, new, message in _changes(before.outputs[name], agreement)
    ]


def _changes(before: _Row | _Answers, now: Agreement) -> list[_Change]:
    assert before.sqnr_db is not None
    changes: list[_Change] = []
    for which in ("worst", "median"):
        old, new = getattr(before.sqnr_db, which), getattr(now.sqnr_db, which)
        if min(old, FLOAT32_FLOOR_DB) - min(new, FLOAT32_FLOOR_DB) > SQNR_FALL_DB:
            text = f"{which} SQNR fell from {old:.1f} to {new:.1f} dB"
            changes.append((f"sqnr_db.{which}", old, new, text))
    for key, words, slack in (
        ("top1_agreement", "the same best class", 1e-9),
        ("top5_agreement", "the same best five", TOP5_FALL),
    ):
        old, new = getattr(before, key), getattr(now, key)
        if old is not None and new is not None and new < old - slack:
            changes.append((key, old, new, f"{words} fell from {percent(old)} to {percent(new)}"))
    return changes


def _key(artifact: str) -> tuple[str, ...]:
    """The names of the folder and the file."""
    return Path(artifact).parts[-2:]


def _label(artifact: str) -> str:
    return one_line(Path(artifact).parent.name or artifact, 80)
