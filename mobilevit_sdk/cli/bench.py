"""`mobilevit bench`: the latency of artifacts, compared with each other and with other ways to run a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilevit_sdk.cli.common import log, out, print_json, print_line, split_list, verb
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import require_place
from mobilevit_sdk.text import count

if TYPE_CHECKING:
    from mobilevit_sdk.bench import BenchResult, Row
    from mobilevit_sdk.parity.device import PhoneRow

_STYLE = {"error": "bold red", "unavailable": "yellow", "throttled": "yellow", "unmeasured": "yellow"}


@verb("bench", "Latency of phone files on this machine's CPU, and on phones.")
@click.argument("artifacts", metavar="[ARTIFACT...]", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--device-report",
    "device_reports",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Show what a phone measured; may be repeated, and needs no ARTIFACT.",
)
@click.option("--threads", callback=split_list, metavar="N,...", help="How many threads.  [default: 1 and all cores]")
@click.option(
    "--against",
    metavar="REFERENCE",
    help="What the ratios are over: an artifact, or pytorch, pytorch-compile, onnxruntime, executorch-stock or "
    "tflite-stock of the artifact's own checkpoint.  [default: the first artifact]",
)
@click.option("--checkpoint", help="The checkpoint for --against, if it was moved.")
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True, help="Rounds of ten inferences each.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw the latencies.")
def command(
    artifacts: tuple[Path, ...],
    device_reports: tuple[Path, ...],
    threads: list[str],
    against: str | None,
    checkpoint: str | None,
    rounds: int,
    plot: Path | None,
    as_json: bool,
) -> int:
    """Measure the latency of artifacts on this machine's CPU, and tabulate what phones measured.

    ARTIFACT is a file, its folder, or a folder of artifacts. All of them, and their reference, are loaded at once, each
    in a process of its own, and take turns: what slows the machine down slows them all, so that the ratios hold.
    Decoding and preprocessing are not timed. An answer that differs from PyTorch's is an error.

    `of roof` is the share of the machine's best sgemm rate, with as many threads, that the network's
    multiply-accumulates reach. The latencies of phones are in their device reports; with ARTIFACT, a report has to be
    of its file, and answers that are not PyTorch's are errors. Exit 0: measured. 3: something failed, or nothing could
    be measured.
    """
    import msgspec

    from mobilevit_sdk.parity.device import phone_rows

    if not artifacts and not device_reports:
        raise RequestError("nothing to measure: give an artifact, or `device_reports` of phones")
    if not artifacts and (threads or against or checkpoint):
        raise RequestError("`threads`, `against` and `checkpoint` are about an artifact: give one")
    if plot:
        require_place(plot.parent)
    numbers = [_number(each) for each in threads]
    phones = phone_rows(device_reports, artifacts)
    document: dict[str, Any] = {"results": []}
    panels: dict[str, Sequence[Row | PhoneRow]] = {}
    result = None
    if artifacts:
        from mobilevit_sdk.bench.benchmark import benchmark
        from mobilevit_sdk.bench.plan import thread_counts
        from mobilevit_sdk.cli.display import Display

        counts = thread_counts(numbers)
        with Display(log) as display:
            result = benchmark(
                artifacts, threads=counts, against=against, checkpoint=checkpoint, rounds=rounds, progress=display
            )
        panels = {count(n, "thread"): [row for row in result.results if row.threads == n] for n in counts}
        document = msgspec.to_builtins(result, str_keys=True)
    if plot:
        from mobilevit_sdk.bench.chart import write_chart

        hot = ", throttled ones in orange" if any(row.status == "throttled" for row in phones) else ""
        write_chart(panels | ({f"phones{hot}": list(phones)} if phones else {}), plot)
    if as_json:
        print_json({**document, "phones": msgspec.to_builtins(phones)})
    else:
        if result:
            _print_result(result)
        if phones:
            print_phones(phones, bool(artifacts))
    statuses = {row.status for row in (*(result.results if result else ()), *phones)}
    return 0 if statuses & {"measured", "throttled"} and "error" not in statuses else 3


def _number(text: str) -> int:
    if not text.isdecimal():
        raise RequestError(f"--threads takes numbers, such as 1,4, not {text!r}")
    return int(text)


def _print_result(result: BenchResult) -> None:
    from rich.text import Text

    from mobilevit_sdk.bench.chart import label
    from mobilevit_sdk.cli.tables import Table

    table = Table("runs", "threads", "median", "p90", "ratio", "of roof", name="runs", drops=("of roof", "p90"))
    for before, row in zip([None, *result.results], result.results, strict=False):
        if before is not None and before.threads != row.threads:
            table.add_row()
        if row.median_ms is None:
            table.add_row(label(row), str(row.threads), Text(row.status, _STYLE[row.status]))
            continue
        table.add_row(
            label(row),
            str(row.threads),
            f"{row.median_ms:.2f} ms",
            f"{row.p90_ms:.2f} ms",
            "-" if row.ratio is None else f"{row.ratio:.2f}",
            f"{row.roof_share:.0%}",
        )
    table.print(out)
    for name, status, reason in dict.fromkeys((label(row), row.status, row.reason) for row in result.results):
        if reason:
            print_line(out, status, _STYLE[status], f"{name}: {reason}")
    roofs = ", ".join(f"{rate:.0f} with {count(n, 'thread')}" for n, rate in result.sgemm_gmacs_per_second.items())
    out.print(f"\nroof: {roofs} (sgemm, 1e9 multiply-accumulates a second)", style="dim")
    out.print(
        f"{count(result.rounds, 'round')} of {result.inferences} inferences on {result.machine.describe()}",
        style="dim",
    )


def print_phones(rows: Sequence[PhoneRow], compared: bool) -> None:
    """Print a row for each run of each phone, then what is to be said about them."""
    from rich.text import Text

    from mobilevit_sdk.cli.tables import Table

    columns = ("artifact · phone", "runtime", "p50", "p90", "with prep.", "whole", "runs", "memory", "thermal")
    table = Table(*columns, name="artifact · phone", left=("runtime",), drops=("memory", "runs", "whole", "thermal"))
    for row in rows:
        name = " · ".join(filter(None, (row.artifact, row.device, row.processor)))
        if row.p50_ms is None:
            table.add_row(name, row.runtime, Text(row.status, _STYLE[row.status]))
            continue
        prepared = "-"
        if row.with_preprocessing_p50_ms is not None:
            prepared = f"{row.with_preprocessing_p50_ms:.2f}, {row.with_preprocessing_p90_ms:.2f}"
        table.add_row(
            name,
            row.runtime,
            f"{row.p50_ms:.2f}",
            f"{row.p90_ms:.2f}",
            prepared,
            {True: "yes", False: "no", None: "-"}[row.fully_accelerated],
            f"{row.warm_up}+{row.samples}",
            "-" if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 1e6:.0f} MB",
            Text(row.thermal_state or "-", _STYLE.get(row.status, "")),
        )
    table.print(out)
    for row in rows:
        if row.reason:
            print_line(
                out, row.status, _STYLE[row.status], f"{row.artifact} on {row.runtime} of {row.device}: {row.reason}"
            )
    words = (
        "ms for one image, p50 and p90, alone and with preprocessing; runs: warm-up + timed; whole: on the accelerator"
    )
    out.print(f"\n{words}", style="dim")
    if not compared:
        out.print(
            "the answers were not compared with PyTorch's: give the artifact, or run `mobilevit verify`", style="dim"
        )
