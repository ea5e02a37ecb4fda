"""Make the checkpoint that ships with the package out of a finished training.

    python recipes/package_default.py runs/cifar10/model.safetensors --test-data cifar10-test.parquet

Kernels and matrices are rounded to float16, which halves the file. The accuracy in the header is measured after that,
with the weights that ship.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import msgspec
import torch

from mobilevit_sdk.checkpoint import load_checkpoint, save_checkpoint
from mobilevit_sdk.measure import measure
from mobilevit_sdk.source import default_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path)
    parser.add_argument("--test-data", type=Path, required=True)
    arguments = parser.parse_args()

    trained = load_checkpoint(arguments.trained)
    with tempfile.TemporaryDirectory() as folder:
        rounded = Path(folder) / "rounded.safetensors"
        save_checkpoint(trained.model, trained.spec, rounded, matrix_dtype=torch.float16)
        accuracy = measure(str(rounded), None, arguments.test_data, None, 256).accuracy
    measured = {"test_images": accuracy.images, "top1": round(accuracy.top1, 4), "top5": round(accuracy.top5, 4)}
    provenance = {**trained.spec.provenance, **measured}
    spec = msgspec.structs.replace(trained.spec, licence="Apache-2.0", provenance=provenance)
    save_checkpoint(trained.model, spec, default_checkpoint(), matrix_dtype=torch.float16)
    print(f"{default_checkpoint()}: {default_checkpoint().stat().st_size:,} bytes, top-1 {accuracy.top1:.2%}")


if __name__ == "__main__":
    main()
