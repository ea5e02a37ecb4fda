"""Make the checkpoint that ships with the package from finished trainings.

    python recipes/package_default.py runs/stage2/model.safetensors runs/stage3/model.safetensors \\
        --test-data cifar10-test.parquet

The weights of several trainings, each started from the one before, are averaged (a model soup, arXiv 2203.05482).
Kernels and matrices are rounded to float16, which halves the file. The accuracy in the header is measured after all
that, with the weights that ship.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import msgspec
import torch

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.default import default_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.evaluation.measure import measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path, nargs="+", help="the last one's recipe goes into the header")
    parser.add_argument("--test-data", type=Path, required=True)
    arguments = parser.parse_args()

    trained = [load_checkpoint(path) for path in arguments.trained]
    weights = [checkpoint.model.state_dict() for checkpoint in trained]
    last = trained[-1]
    last.model.load_state_dict(
        {
            name: torch.stack([each[name] for each in weights]).mean(0) if value.is_floating_point() else value
            for name, value in weights[-1].items()
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        rounded = Path(folder) / "rounded.safetensors"
        save_checkpoint(last.model, last.spec, rounded, matrix_dtype=torch.float16)
        accuracy = measure(str(rounded), None, arguments.test_data, None, 256).accuracy
    provenance = {
        **last.spec.provenance,
        "averaged": [{"sha256": each.sha256, "top1": each.spec.provenance["top1"]} for each in trained],
        "test_images": accuracy.images,
        "top1": round(accuracy.top1, 4),
        "top5": round(accuracy.top5, 4),
    }
    spec = msgspec.structs.replace(last.spec, license="Apache-2.0", provenance=provenance)
    save_checkpoint(last.model, spec, default_checkpoint(), matrix_dtype=torch.float16)
    print(f"{default_checkpoint()}: {default_checkpoint().stat().st_size:,} bytes, top-1 {accuracy.top1:.2%}")


if __name__ == "__main__":
    main()
