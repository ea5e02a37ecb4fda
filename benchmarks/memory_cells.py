"""Learnable memory (arXiv 2203.15243): a new task by its head, class token and memory cells, next to full fine-tuning.

    python benchmarks/memory_cells.py --base-data CIFAR10 --data CIFAR100 --test-data CIFAR100_TEST [--images N]
    python benchmarks/memory_cells.py --page-only

A small ViT is trained on the base's images (or taken: `--base CHECKPOINT`). Then each arm learns the new task from the
same images in the same augmented views, for as many steps, at the learning rate that was best on validation images
with seed 0, of the same rates for all. Only then does it see the test images. As the tokens of a frozen network do not
depend on the task, they are computed once a view (`Frozen`); the answers are those of the network with the task, which
is checked on test images. What was done stays in `--out`. Writes docs/measured/memory.md and its plot.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from memory_cells_page import Base, Fit, Tested, chosen, write_memory
from safetensors.torch import load_file, save_file
from shared import MEASURED, read_record, tell, write_record
from small_vit import RECIPE, SIZE, Teller, spec_of
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.data import ImageDataset, crop_image, open_dataset, to_model_input
from mobilevit_sdk.layers import TaskMemory, TransformerBlock
from mobilevit_sdk.layers.memory import first_tokens, run_tasks_in_block
from mobilevit_sdk.models.vit import ViT, ViTConfig
from mobilevit_sdk.spec import MemoryTask
from mobilevit_sdk.tasks.augment import augment
from mobilevit_sdk.tasks.draws import Draws, image_seeds
from mobilevit_sdk.training.run import train_network

CELLS = (0, 1, 2, 5, 10)
ARMS = ("head", *(f"{cells} cells" for cells in CELLS), "full")
RATES = (5e-4, 2e-3, 8e-3)
WARMUP = 5  # steps, as in the paper
BATCH = 128


def base_of(options: argparse.Namespace) -> Checkpoint:
    """The network that is given, or the one that this trains, on all but the last tenth of the base's images."""
    if options.base:
        return load_checkpoint(options.base)
    record = options.out / "base.json"
    if not record.exists():
        data = open_dataset(options.base_data, labeled=True)
        split = len(data) - len(data) // 10
        train, validation = data.at(range(split)), data.at(range(split, len(data)))
        shape = {"dim": options.dim, "num_heads": 4, "depth": options.depth, "mlp_ratio": 2, "patch_size": 8}
        config = ViTConfig(image_size=(SIZE, SIZE), num_classes=len(data.class_names or ()), **shape)
        recipe = msgspec.structs.replace(RECIPE, epochs=options.base_epochs, learning_rate=2e-3)
        trained = train_network(
            spec_of(config, data.class_names),
            None,
            recipe,
            train,
            validation,
            options.out / "base",
            teacher=None,
            device="cpu",
            progress=Teller("base"),
        )
        write_record(Base(len(train), recipe.epochs, trained.result.top1, len(validation)), record)
    return load_checkpoint(options.out / "base" / "model.safetensors")  # of the last epoch: none is chosen


@dataclass(frozen=True)
class Frozen:
    """What a frozen network makes of images: the tokens that enter each block, and what its head reads."""

    streams: Tensor  # [blocks, images, N, dim]
    features: Tensor  # [images, dim]

    @classmethod
    @torch.no_grad()
    def of(cls, network: ViT, images: Tensor) -> Frozen:
        streams, features = [], []
        for x in images.split(250):
            x = network.tokens(x)
            entering = []
            for block in network.blocks:
                entering.append(x)
                x = block(x)
            streams.append(torch.stack(entering))
            features.append(network.norm(network.first(x))[:, 0])
        return cls(torch.cat(streams, 1), torch.cat(features))

    def answer(self, network: ViT, task: TaskMemory, rows: Tensor) -> Tensor:
        """The scores of `task` for the images `rows`, [rows, classes]: `layers.run_with_tasks` for one task."""
        tokens = first_tokens([task], len(rows))
        for index, block in enumerate(cast("list[TransformerBlock]", list(network.blocks))):
            own = block.attention.project(block.norm1(self.streams[index, rows]))
            run_tasks_in_block(block, index, own, tokens, [task])
        return cast("Tensor", task.head(network.norm(tokens[task.name])[:, 0]))


@dataclass(frozen=True)
class Images:
    """Model inputs with labels, and what the base makes of them."""

    x: Tensor
    labels: Tensor
    frozen: Frozen


class Arms:
    """The network, the images of the new task, and a way to train each arm on them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        base = base_of(options)
        self.network, self.spec = cast("ViT", base.model.eval().requires_grad_(False)), base.spec
        data = open_dataset(options.data, labeled=True)
        rest = len(data) - options.validation
        self.train = data.at(range(min(options.images, rest)))
        self.classes = len(data.class_names or ()) or max(data.labels or [0]) + 1
        self.views = [self._view(seed) for seed in range(options.views)]
        self.validation = self._images(data.at(range(rest, len(data))))
        self.test: Images | None = None

    def _pixels(self, data: ImageDataset) -> Tensor:
        preprocessing = self.spec.preprocessing
        return torch.from_numpy(np.stack([crop_image(data.image(row), preprocessing) for row in range(len(data))]))

    def _images(self, data: ImageDataset, view: int | None = None) -> Images:
        pixels = self._pixels(data)
        if view is not None:
            seeds = image_seeds(view, 0, range(len(pixels)))
            parts = (Draws(each, torch.Generator()) for each in seeds.split(500))
            both = zip(pixels.split(500), parts, strict=True)
            pixels = torch.cat([augment(each, (SIZE, SIZE), RECIPE, draws) for each, draws in both])
        x = to_model_input(pixels, self.spec.preprocessing)
        return Images(x, torch.tensor(data.labels), Frozen.of(self.network, x))

    def _view(self, seed: int) -> Images:
        tell(f"view {seed + 1} of {len(self.train):,} images")
        return self._images(self.train, seed)

    def learner(self, arm: str) -> tuple[nn.Module, Callable[[Images, Tensor], Tensor]]:
        """What the arm learns, with its first weights from the global generator, and the scores that it gives."""
        if arm == "full":
            network = copy.deepcopy(self.network).requires_grad_(True)
            network.head.linear = _head(self.network.config.dim, self.classes)
            return network, lambda images, rows: network(images.x[rows])
        if arm == "head":
            head = _head(self.network.config.dim, self.classes)
            return head, lambda images, rows: head(images.frozen.features[rows])
        task = TaskMemory("new", self.classes, int(arm.split()[0]), self.network.config.dim, len(self.network.blocks))
        return task, lambda images, rows: images.frozen.answer(self.network, task, rows)

    def fit(self, arm: str, rate: float, seed: int, weights: Path) -> Fit:
        """Train once: AdamW without decay, a warm-up of 5 steps, cosine to nothing. Epoch after epoch the next view."""
        torch.manual_seed(seed)
        learner, scores = self.learner(arm)
        parameters = list(learner.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0)
        count = len(self.train)
        steps, step = self.options.epochs * -(-count // BATCH), 0
        loss = torch.tensor(0.0)
        for epoch in range(self.options.epochs):
            view = self.views[epoch % len(self.views)]
            for rows in torch.randperm(count).split(BATCH):
                warm = min(1.0, (step + 1) / WARMUP)
                optimizer.param_groups[0]["lr"] = rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
                loss = F.cross_entropy(scores(view, rows), view.labels[rows], label_smoothing=RECIPE.label_smoothing)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(parameters, RECIPE.clip_norm)
                optimizer.step()
                step += 1
        save_file({name: tensor.contiguous() for name, tensor in learner.state_dict().items()}, weights)
        return Fit(
            arm=arm,
            learning_rate=rate,
            seed=seed,
            learned=sum(parameter.numel() for parameter in parameters),
            images=count,
            views=len(self.views),
            epochs=self.options.epochs,
            steps=steps,
            loss=loss.item(),
            validation=_top1(scores, self.validation),
            validation_images=len(self.validation.labels),
        )

    def judge(self, fit: Fit, weights: Path) -> Tested:
        """What is left of it on the test images, and whether the network with the task answers just so."""
        self.test = self.test or self._images(open_dataset(self.options.test_data, labeled=True))
        learner, scores = self.learner(fit.arm)
        learner.load_state_dict(load_file(weights))
        top1 = _top1(scores, self.test)
        same, difference = None, None
        if isinstance(learner, TaskMemory):
            x, rows = self.test.x[:256], torch.arange(min(256, len(self.test.x)))
            network = copy.deepcopy(self.network)
            cells = 0 if learner.memory is None else learner.memory.shape[1]
            network.add_tasks([MemoryTask(name="new", num_classes=self.classes, cells=cells)])
            assert network.tasks is not None
            network.tasks[0].load_state_dict(learner.state_dict())
            with torch.no_grad():
                own, ours = network.eval()(x)
                same = torch.equal(own, self.network(x))
                difference = (ours - scores(self.test, rows)).abs().max().item()
        return Tested(fit.arm, fit.learning_rate, fit.seed, top1, len(self.test.labels), same, difference)


def _head(dim: int, classes: int) -> nn.Linear:
    head = nn.Linear(dim, classes)
    nn.init.trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


@torch.no_grad()
def _top1(scores: Callable[[Images, Tensor], Tensor], images: Images) -> float:
    rows = torch.arange(len(images.labels)).split(500)
    right = sum((scores(images, each).argmax(1) == images.labels[each]).sum().item() for each in rows)
    return right / len(images.labels)


def measure(options: argparse.Namespace) -> None:
    """What the folder lacks: of each arm all rates with the first seed, then the test; then the other seeds."""
    fits, arms = options.out / "fits", Arms(options)
    fits.mkdir(exist_ok=True)

    def once(arm: str, rate: float, seed: int) -> Fit:
        path = fits / f"{arm.replace(' ', '-')}-{rate:g}-{seed}.json"
        if not path.exists():
            fit = write_record(arms.fit(arm, rate, seed, path.with_suffix(".safetensors")), path)
            tell(f"{path.stem}: {fit.validation:.1%} of validation images, loss {fit.loss:.2f}")
        return read_record(path, Fit)

    for seed in range(options.seeds):
        for arm in options.arms:
            rate = chosen([once(arm, rate, 0) for rate in options.rates])[arm]
            fit = once(arm, rate, seed)
            name = f"{arm.replace(' ', '-')}-{rate:g}-{seed}"
            path = options.out / "tested" / f"{name}.json"
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                found = write_record(arms.judge(fit, fits / f"{name}.safetensors"), path)
                tell(f"{path.stem}: {found.top1:.1%} of test images")


def main(arguments: Sequence[str] | None = None) -> None:
    def listed(kind: Callable[[str], object]) -> Callable[[str], list[object]]:
        return lambda text: [kind(each) for each in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="a trained ViT for images of 32 pixels")
    parser.add_argument("--base-data", type=Path, help="what to train one on, where none is given")
    parser.add_argument("--base-epochs", type=int, default=4)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--data", type=Path, help="the new task's images")
    parser.add_argument("--test-data", type=Path)
    parser.add_argument("--images", type=int, default=10_000, help="so many of them, the first ones")
    parser.add_argument("--validation", type=int, default=2000, help="so many, the last ones, choose learning rates")
    parser.add_argument("--views", type=int, default=4, help="augmented copies of each image")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rates", type=listed(float), default=list(RATES), help="learning rates to choose from")
    parser.add_argument("--arms", type=listed(str), default=list(ARMS), help=f"of {', '.join(ARMS)}")
    parser.add_argument("--out", type=Path, default=Path("runs/memory"))
    parser.add_argument("--page", type=Path, default=MEASURED / "memory.md", help="the page to write")
    parser.add_argument("--page-only", action="store_true")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.page_only:
        if not options.data or not options.test_data or not (options.base or options.base_data):
            parser.error("give --data, --test-data, and --base or --base-data; or --page-only")
        torch.set_num_threads(1)  # the same bits whatever else the machine does
        measure(options)
    write_memory(options.out, options.page)


if __name__ == "__main__":
    main()
