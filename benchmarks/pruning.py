"""Pruning side by side: ours by Taylor, by magnitude and at random, and Torch-Pruning's Taylor, at the same MACs.

    python benchmarks/pruning.py --data TRAIN --test-data TEST [--checkpoint FILE] [--keep 0.7,0.5] [--samples N]
        [--limit N] [--methods taylor,random,...] [--out docs/pruning.md] [--append]

Torch-Pruning (https://github.com/VainF/Torch-Pruning, `pip install torch-pruning`) takes what a user would give it: its
GroupTaylorImportance over the whole network, channels in multiples of 8, the heads of attention, the classifier left
alone, gradients of the same images, measured anew in each of its steps. Its graph does not follow a fused qkv through
our attention (1.6.1: an index out of bounds), so it gets queries, keys and values from layers of their own, which
compute the same. It stops at the first step that reaches the share; ours is then asked for what it has reached.
BatchNorm statistics of all are measured anew on the same images. Top-1 is before any fine-tuning.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mobilevit_sdk.checkpoint import Checkpoint
from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.deployment.linears import linear
from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.evaluate import match_classes
from mobilevit_sdk.layers import Attention
from mobilevit_sdk.pruning import Images, Request, prune_network
from mobilevit_sdk.pruning.folder import top1_of
from mobilevit_sdk.pruning.plots import plot_frontier, plot_kept
from mobilevit_sdk.pruning.statistics import measure_statistics
from mobilevit_sdk.source import open_source

TP_STEPS = 16  # to nothing: a sixteenth of the channels each
METHODS = {
    "torch-pruning": "Taylor, Torch-Pruning",
    "taylor": "Taylor, ours",
    "magnitude": "magnitude, ours",
    "random": "random",
}


class SplitAttention(nn.Module):
    """`Attention` with layers of their own for queries, keys and values, and no size written down."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        keys = attention.num_heads * attention.key_dim
        self.num_heads = attention.num_heads
        self.q = linear(attention.qkv, slice(0, keys))
        self.k = linear(attention.qkv, slice(keys, 2 * keys))
        self.v = linear(attention.qkv, slice(2 * keys, None))
        self.proj = attention.proj

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = (part(x).view(batch, tokens, self.num_heads, -1).transpose(1, 2) for part in (self.q, self.k, self.v))
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        out: Tensor = self.proj(x.reshape(batch, tokens, -1))
        return out


def macs_of(model: nn.Module, image_size: tuple[int, int]) -> int:
    """Multiply-accumulates on one image, those within attention included."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, *image_size))
    return counter.get_total_flops() // 2


def torch_pruning(
    checkpoint: Checkpoint, images: Images, shares: list[float], batch_size: int
) -> dict[float, nn.Module]:
    """The network of the first of Torch-Pruning's steps that has at most each share of the multiply-accumulates."""
    import torch_pruning as tp

    model, size = copy.deepcopy(checkpoint.model).eval(), checkpoint.spec.preprocessing.image_size
    replace_layers(model, Attention, SplitAttention)
    model.requires_grad_(True)
    attentions = [layer for layer in model.modules() if isinstance(layer, SplitAttention)]
    whole = macs_of(model, size)
    pruner = tp.pruner.BasePruner(
        model,
        example_inputs=torch.rand(1, 3, *size),
        importance=tp.importance.GroupTaylorImportance(),
        global_pruning=True,
        pruning_ratio=1.0,
        max_pruning_ratio=0.9,
        iterative_steps=TP_STEPS,
        round_to=8,
        ignored_layers=[layer for name, layer in model.named_modules() if name.startswith("head")],
        num_heads={part: layer.num_heads for layer in attentions for part in (layer.q, layer.k, layer.v)},
    )
    found: dict[float, nn.Module] = {}
    for step in range(TP_STEPS):
        model.zero_grad()
        for batch, labels in images.batches(batch_size):
            (F.cross_entropy(model(batch), labels) / (len(images) / batch_size)).backward()
        pruner.step()
        left = macs_of(model, size) / whole
        print(f"Torch-Pruning, step {step + 1}: {left:.3f} of the MACs", flush=True)
        for share in shares:
            if left <= share and share not in found:
                found[share] = copy.deepcopy(model)
        if len(found) == len(shares):
            break
    return found


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    checkpoint = open_source(arguments.checkpoint)
    spec = checkpoint.spec
    size = spec.preprocessing.image_size
    train = open_dataset(arguments.data, labelled=True)
    test = match_classes(open_dataset(arguments.test_data, labelled=True), spec)
    test = test.sample(arguments.limit) if arguments.limit else test
    request = Request(samples=arguments.samples)
    images = Images(train, spec, request.samples)
    shares = [float(each) for each in arguments.keep.split(",")]

    def top1(model: nn.Module) -> float:
        return top1_of(model, spec, test, lambda what, done, total: None)

    whole = macs_of(checkpoint.model, size)
    parameters = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    rows = [{"method": "unpruned", "keep": 1.0, "macs": 1.0, "parameters": 1.0, "top1": top1(checkpoint.model)}]
    print(rows[0], flush=True)

    def add(method: str, keep: float, model: nn.Module, started: float, **more: Any) -> None:
        left = sum(parameter.numel() for parameter in model.parameters()) / parameters
        row = {"method": method, "keep": keep, "macs": macs_of(model, size) / whole, "parameters": left}
        rows.append({**row, "top1": top1(model), "seconds": round(time.process_time() - started), **more})
        print(rows[-1], flush=True)

    started = time.process_time()
    methods = arguments.methods.split(",")
    theirs = torch_pruning(checkpoint, images, shares, 64) if "torch-pruning" in methods else {}
    kept = {}
    for share in shares:
        keep = share
        if share in theirs:
            keep = macs_of(theirs[share], size) / whole
            as_it_comes = top1(theirs[share])
            measure_statistics(theirs[share], images)
            add(METHODS["torch-pruning"], share, theirs[share], started, as_it_comes=as_it_comes)
        for importance in [each for each in methods if each != "torch-pruning"]:
            method, started = METHODS[importance], time.process_time()
            try:
                asked = msgspec.convert({"keep": keep, "importance": importance, "samples": len(images)}, Request)
                pruned = prune_network(checkpoint.model, spec, asked, images)
            except RequestError as error:
                print(f"{method}: {error}")
                continue
            add(method, share, pruned.model, started)
            if importance == "taylor":
                kept[share] = pruned.kept
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    stem = f"{arguments.out.with_suffix('')}-{spec.model}"
    for share, each in kept.items():
        plot_kept(
            each, Path(f"{stem}-kept-{share:g}.png"), f"{spec.model}: what Taylor keeps with {share:g} of the MACs"
        )
    lines = {
        method: [(1.0, rows[0]["top1"]), *((row["macs"], row["top1"]) for row in rows if row["method"] == method)]
        for method in dict.fromkeys(row["method"] for row in rows[1:])
    }
    plot_frontier(lines, Path(f"{stem}.png"), f"{spec.model} on {test.source.stem}, before fine-tuning")
    return {
        "model": spec.model,
        "checkpoint": Path(checkpoint.source).name,
        "image_size": size,
        "macs": whole,
        "parameters": parameters,
        "test_images": len(test),
        "samples": len(images),
        "rows": rows,
    }


def as_markdown(result: dict[str, Any]) -> str:
    """A section of the document: a table and its pictures."""
    title = f"## {result['model']} ({result['checkpoint']})"
    lines = [
        title,
        "",
        f"{result['image_size'][0]}x{result['image_size'][1]} pixels, {result['macs'] / 1e6:.1f} million "
        f"multiply-accumulates, {result['parameters'] / 1e6:.2f} million parameters. Judged by {result['samples']:,} "
        f"training images; top-1 on {result['test_images']:,} test images, before fine-tuning.",
        "",
        "| asked for | method | MACs left | parameters left | top-1 | lost | CPU seconds |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    whole = result["rows"][0]["top1"]
    for row in result["rows"]:
        came = f" (as it comes {row['as_it_comes']:.2%})" if "as_it_comes" in row else ""
        lines.append(
            f"| {row['keep']:g} | {row['method']} | {row['macs']:.3f} | {row['parameters']:.3f} "
            f"| {row['top1']:.2%}{came} | {100 * (whole - row['top1']):.2f} | {row.get('seconds', '')} |"
        )
    pictures = [f"![top-1 over MACs](pruning-{result['model']}.png)"]
    taylor = [row for row in result["rows"] if row["method"] == METHODS["taylor"]]
    pictures += [f"![what is kept](pruning-{result['model']}-kept-{row['keep']:g}.png)" for row in taylor]
    return "\n".join([*lines, "", *pictures, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test-data", type=Path, required=True)
    parser.add_argument("--keep", default="0.7,0.5")
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path, default=Path("docs/pruning.md"))
    parser.add_argument("--append", action="store_true", help="add a section to --out instead of beginning it anew")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    result = measure(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    before = arguments.out.read_text() + "\n" if arguments.append and arguments.out.exists() else _HEAD
    arguments.out.write_text(before + as_markdown(result))


_HEAD = """# Pruning, side by side

Made by `benchmarks/pruning.py`, whose docstring says what is compared and how.

"""

if __name__ == "__main__":
    main()
