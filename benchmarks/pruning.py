"""Pruning side by side: ours by Taylor, by magnitude and at random, and Torch-Pruning's Taylor, at the same MACs.

    python benchmarks/pruning.py --data TRAIN --test-data TEST --epochs 5 [--checkpoint FILE] [--keep 0.7,0.5]
        [--methods taylor,torch-pruning,magnitude,random] [--finetune taylor,torch-pruning] [--precision bf16]
    python benchmarks/pruning.py --page-only

One network a run; the page is written from all that were measured. All methods see the same images; BatchNorm
statistics are measured again on them, for Torch-Pruning too. That prunes in steps (see torch_pruning_baseline.py), of
which the one nearest to the requested share is compared. Fine-tuning is the same for all: that of
`mobilevit prune --finetune`, taught by the unpruned network. Latencies are those of our files. Results stay in `--out`,
network by network, so an interrupted run resumes.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import msgspec
import torch
from pruning_page import METHODS, OURS, THEIRS, Finetuned, Row, Unpruned, write_pruning
from shared import MEASURED, read_record, tell, write_record
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torch_pruning_baseline import pruned_in_steps

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.checkpoints.source import open_source
from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.evaluation.measure import network_predictor
from mobilevit_sdk.pruning import PruningImages, Request, prune_network
from mobilevit_sdk.pruning.phone_files import Latencies, measure_files
from mobilevit_sdk.pruning.statistics import measure_statistics
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.tasks import task_of
from mobilevit_sdk.training import FINETUNE_RECIPE, Trainer

T = TypeVar("T")


class Network:
    """All that is measured of one checkpoint, in a folder that keeps it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.checkpoint = open_source(options.checkpoint)
        self.spec = self.checkpoint.spec
        self.size = self.spec.preprocessing.image_size
        self.folder: Path = options.out / self.spec.model
        self.train = open_dataset(options.data, labeled=True)
        self.test = task_of(self.spec).match(open_dataset(options.test_data, labeled=True))
        self.shares = sorted((float(each) for each in options.keep.split(",")), reverse=True)

    def measure(self) -> None:
        methods = self.options.methods.split(",")
        for method in methods:
            if method == THEIRS:
                self._prune_with_torch_pruning()
                continue
            for keep in self.shares:
                self._once(f"{method}-{keep:g}", Row, lambda keep=keep, method=method: self._prune(method, keep))
        for keep in self.shares[-1:] if OURS in methods else []:  # where the bar is
            self._once(f"latency-{keep:g}", Latencies, lambda keep=keep: self._latency(keep))
        for keep in self.shares:
            for name in (f"{method}-{keep:g}" for method in self.options.finetune.split(",")):
                if list(self.folder.glob(f"{name}.[ps]*t*")):
                    self._once(f"finetuned-{name}", Finetuned, lambda name=name: self._finetune(name))

    @cached_property
    def images(self) -> PruningImages:
        return PruningImages(self.train, self.spec, self.options.samples)

    @cached_property
    def unpruned(self) -> Unpruned:
        model = self.checkpoint.model
        return self._once(
            "unpruned",
            Unpruned,
            lambda: Unpruned(
                self.spec.model,
                Path(self.checkpoint.source).name,
                self.size,
                macs_of(model, self.size),
                parameters_of(model),
                self._top1(model),
                len(self.test),
                self.options.samples,
            ),
        )

    def _once(self, name: str, kind: type[T], make: Callable[[], T]) -> T:
        """What an earlier run has left under this name, or what is made now."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            made = make()
            write_record(made, path)
            tell(f"{self.spec.model}: {name}: {msgspec.json.encode(made).decode()[:150]}")
        return read_record(path, kind)

    def _prune(self, method: str, keep: float) -> Row:
        request = msgspec.convert({"keep": keep, "importance": method, "samples": self.options.samples}, Request)
        images, started = self.images, time.process_time()
        pruned = prune_network(self.checkpoint.model, self.spec, request, images)
        seconds = time.process_time() - started
        save_checkpoint(pruned.model, pruned.spec, self.folder / f"{method}-{keep:g}.safetensors")
        row = self._judged(method, keep, pruned.model)
        return msgspec.structs.replace(row, seconds=seconds, kept=pruned.kept)

    def _prune_with_torch_pruning(self) -> None:
        """Of its steps the one that comes nearest to each share."""
        wanted = [keep for keep in self.shares if not (self.folder / f"{THEIRS}-{keep:g}.json").exists()]
        images, started, failure = self.images, time.process_time(), "its steps end before"
        last, above = copy.deepcopy(self.checkpoint.model), 1.0
        steps = pruned_in_steps(self.checkpoint.model, self.size, images) if wanted else iter(())
        try:
            for model in steps:
                left = macs_of(model, self.size) / self.unpruned.macs
                tell(f"{self.spec.model}: Torch-Pruning has reached {left:.3f}")
                seconds = time.process_time() - started
                while wanted and left < wanted[0]:
                    keep = wanted.pop(0)
                    self._keep_theirs(keep, copy.deepcopy(last if above - keep < keep - left else model), seconds)
                if not wanted:
                    return
                last, above = copy.deepcopy(model), left
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
        for keep in wanted:
            self._once(f"{THEIRS}-{keep:g}", Row, lambda keep=keep: Row(THEIRS, keep, failure=failure))

    def _keep_theirs(self, keep: float, model: nn.Module, seconds: float) -> None:
        def made() -> Row:
            as_it_comes = self._top1(model)
            measure_statistics(model, self.images)
            torch.save(model, self.folder / f"{THEIRS}-{keep:g}.pt")
            return msgspec.structs.replace(self._judged(THEIRS, keep, model), seconds=seconds, as_it_comes=as_it_comes)

        self._once(f"{THEIRS}-{keep:g}", Row, made)

    def _judged(self, method: str, keep: float, model: nn.Module) -> Row:
        return Row(
            method,
            keep,
            macs=macs_of(model, self.size) / self.unpruned.macs,
            parameters=parameters_of(model) / self.unpruned.parameters,
            top1=self._top1(model),
        )

    def _latency(self, keep: float) -> Latencies:
        pruned = load_checkpoint(self.folder / f"{OURS}-{keep:g}.safetensors")
        return measure_files(self.checkpoint, pruned, self.folder / f"files-{keep:g}")

    def _finetune(self, name: str) -> Finetuned:
        """By the same recipe for all methods; a folder that holds part of the training resumes it."""
        model, spec = self._opened(name)
        recipe = msgspec.structs.replace(FINETUNE_RECIPE, epochs=self.options.epochs, precision=self.options.precision)
        folder, cpu = self.folder / f"finetuned-{name}", torch.device("cpu")
        trainer = Trainer(model, spec, recipe, self.train, self.test, folder, device=cpu, teacher=self.checkpoint)
        result = trainer.run(on_epoch=lambda result: tell(f"{name}, epoch {result.epoch}: top-1 {result.top1:.2%}"))
        assert result is not None
        return Finetuned(recipe.epochs, len(self.train), result.top1)

    def _opened(self, name: str) -> tuple[nn.Module, ModelSpec]:
        """A network that is kept; Torch-Pruning's has no spec of its own, and the unpruned one's classes and pixels."""
        if name.startswith(THEIRS):
            return torch.load(self.folder / f"{name}.pt", weights_only=False), self.spec  # written above
        ours = load_checkpoint(self.folder / f"{name}.safetensors")
        return ours.model, ours.spec

    def _top1(self, model: nn.Module) -> float:
        return task_of(self.spec).measure(network_predictor(model, self.spec), self.test).top1


def macs_of(model: nn.Module, image_size: tuple[int, int]) -> int:
    """Multiply-accumulates on one image, those within attention included."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, *image_size))
    return counter.get_total_flops() // 2


def parameters_of(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="by default the one that ships")
    parser.add_argument("--data", type=Path, help="the images that it was trained on")
    parser.add_argument("--test-data", type=Path)
    parser.add_argument("--keep", default="0.7,0.5", help="shares of the multiply-accumulates")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--samples", type=int, default=Request().samples, help="images to judge channels by")
    parser.add_argument("--finetune", default=f"{OURS},{THEIRS}", help="fine-tune what these methods have left")
    parser.add_argument("--epochs", type=int, help="of fine-tuning: a tenth of the training")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of fine-tuning")
    parser.add_argument("--out", type=Path, default=Path("out/pruning"), help="what was made and measured")
    parser.add_argument("--page", type=Path, default=MEASURED / "pruning-measured.md", help="the page to write")
    parser.add_argument("--page-only", action="store_true")
    options = parser.parse_args()
    if not options.page_only:
        if not (options.data and options.test_data and options.epochs):
            parser.error("give --data, --test-data and --epochs, or --page-only")
        Network(options).measure()
    write_pruning(options.out, options.page)


if __name__ == "__main__":
    main()
