"""Convert a checkpoint to two TFLite precisions and print what each costs and what it computes.

    python examples/convert_and_verify.py my_finetuned.pth artifacts

Exit code 1 when a file does not answer as PyTorch does.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mobilevit_sdk import convert, inspect_checkpoint, load_checkpoint


def main(source: str, out: Path) -> int:
    found = inspect_checkpoint(source)
    print(f"{found.model} of {found.layout}, {found.num_classes} classes, {found.parameters:,} parameters")

    result = convert(load_checkpoint(source), out=out, formats=["tflite"], precisions=["fp32", "fp16"])
    for failure in result.failures:
        print(f"{failure.format} {failure.precision}: {failure.error}", file=sys.stderr)
    for artifact in result.artifacts:
        print(
            f"{artifact.path}: {artifact.manifest.bytes / 1e6:.2f} MB, {artifact.manifest.delegates} delegate call(s)"
        )
    for verdict in result.verdicts:
        what = f"worst SQNR {verdict.agreement.sqnr_db.worst:.1f} dB" if verdict.agreement else verdict.reason
        print(f"{verdict.precision} on {verdict.runtime}: {verdict.status}, {what}")
    good = not result.failures and all(verdict.status in ("passed", "unavailable") for verdict in result.verdicts)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
