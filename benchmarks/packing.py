"""Patch n' Pack against padding and against squares: images a second of training steps, padding, kinds of attention.

    python benchmarks/packing.py --images PHOTOGRAPHS.parquet [--model navit_tiny_patch16] [--batch 32] [--rounds 7]
    python benchmarks/packing.py --page-only

PHOTOGRAPHS are of real proportions. A step is forward, loss, backward and AdamW on the same photographs for all arms,
which take turns; decoding and augmentation stay outside. Ratios hold on a busy machine, images a second do not.
Measurements stay in `--out`. Writes docs/measured/packing.md.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from packing_page import Attention, Padding, Record, Step, write_packing
from shared import MEASURED, read_record, tell, write_record
from torch import Tensor

from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.models.registry import build_model, model_spec
from mobilevit_sdk.tasks.draws import Draws, image_seeds
from mobilevit_sdk.training.packing import (
    PackedImages,
    draw_kept,
    first_fit,
    grid_of,
    pack,
    plan_sequences,
)

SIDE, LEAST, PATCH, MOST = 224, 112, 16, 64
SEQUENCES = (256, 392, 512)


def draws_for(images: Sequence[object]) -> Draws:
    return Draws(image_seeds(0, 0, range(len(images))), torch.Generator())


def next_fit(lengths: Sequence[int], capacity: int) -> int:
    """How many sequences there are if only the last one is open."""
    count, free = 0, 0
    for length in lengths:
        if length > free:
            count, free = count + 1, capacity
        free -= length
    return count


def measure_padding(proportions: Sequence[float], batch: int) -> list[Padding]:
    """Of all photographs, in batches of `batch`, by each way to fill sequences."""
    found = []
    for drop in (0.0, 0.5):
        generator = torch.Generator().manual_seed(0)
        sides = (LEAST + (SIDE - LEAST) * torch.rand(len(proportions), generator=generator)).tolist()
        counts = [math.prod(grid_of(*each, PATCH)) for each in zip(proportions, sides, strict=True)]
        lengths = [len(kept) for kept in draw_kept(counts, drop, draws_for(counts))]
        batches = [lengths[start : start + batch] for start in range(0, len(lengths) - batch + 1, batch)]
        tokens = sum(map(sum, batches))
        longest = sum(len(each) * max(each) for each in batches)
        for capacity in SEQUENCES:
            planned = [plan_sequences(each, capacity, MOST) for each in batches]
            lengths_of = [
                [sum(each[item] for item in items) for items in plan]
                for each, plan in zip(batches, planned, strict=True)
            ]
            found.append(
                Padding(
                    drop=drop,
                    sequence=capacity,
                    to_longest=1 - tokens / longest,
                    next_fit=1 - tokens / sum(next_fit(each, capacity) * capacity for each in batches),
                    first_fit=1 - tokens / sum(len(first_fit(each, capacity, MOST)) * capacity for each in batches),
                    planned=1 - tokens / sum(len(own) * max(own) for own in lengths_of),
                )
            )
    return found


def arms_for(images: Sequence[Tensor], sides: Sequence[float], sequence: int) -> dict[str, PackedImages | Tensor]:
    """The same photographs as each arm feeds them."""
    shaped = []
    for image, side in zip(images, sides, strict=True):
        rows, columns = grid_of(image.shape[2] / image.shape[1], side, PATCH)
        shaped.append(F.interpolate(image[None], (rows * PATCH, columns * PATCH), mode="bilinear", antialias=True)[0])
    kept = draw_kept([math.prod(image.shape[1:]) // PATCH**2 for image in shaped], 0.5, draws_for(shaped))
    squares = [F.interpolate(image[None], (SIDE, SIDE), mode="bilinear", antialias=True) for image in images]
    alone = {"capacity": (SIDE // PATCH) ** 2, "most": 1}
    return {
        "squares": torch.cat(squares),
        "padded": pack(shaped, PATCH, **alone),
        "padded, half dropped": pack(shaped, PATCH, **alone, kept=kept),
        "packed": pack(shaped, PATCH, sequence, MOST),
        "packed, half dropped": pack(shaped, PATCH, sequence, MOST, kept),
    }


def measure_steps(images: Sequence[Tensor], model_name: str, sequence: int, rounds: int, least: int) -> list[Step]:
    """Seconds of a training step in each arm, in turns."""
    generator = torch.Generator().manual_seed(1)
    sides = (least + (SIDE - least) * torch.rand(len(images), generator=generator)).tolist()
    fed = arms_for(images, sides, sequence)
    torch.manual_seed(0)
    model = build_model(model_spec(model_name)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    targets = torch.arange(len(images))

    def take(x: PackedImages | Tensor) -> None:
        scores = model(x) if isinstance(x, Tensor) else x.scores(model)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(scores, targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    seconds: dict[str, list[float]] = {name: [] for name in fed}
    for round_number in range(rounds + 1):  # the first warms up
        for name, x in fed.items():
            started = time.perf_counter()
            take(x)
            if round_number:
                seconds[name].append(time.perf_counter() - started)
        tell(f"sides from {least}: round {round_number} of {rounds}")
    found = []
    for name, x in fed.items():
        count, length, padding = len(images), (SIDE // PATCH) ** 2, 0.0
        if isinstance(x, PackedImages):
            (count, length), padding = x.owners.shape, x.padding
        own = median(seconds[name])
        found.append(Step(least, name, count, length, padding, len(images) / own, own / median(seconds["padded"])))
    return found


def kinds_of_attention(lengths: Sequence[int], sequence: int) -> dict[str, Callable[[], Tensor]]:
    """Attention of 3 heads of 64 channels among the tokens of each image, by what torch has for it."""
    plan = plan_sequences(lengths, sequence, MOST)
    longest = max(sum(lengths[item] for item in items) for items in plan)
    owners = torch.full((len(plan), longest), -1)
    for row, items in enumerate(plan):
        numbers = torch.arange(len(items)).repeat_interleave(torch.tensor([lengths[item] for item in items]))
        owners[row, : len(numbers)] = numbers
    mask = (owners[:, :, None] == owners[:, None])[:, None]
    torch.manual_seed(0)
    q, k, v = (torch.randn(len(plan), 3, longest, 64, requires_grad=True) for _ in range(3))
    flat = [torch.randn(sum(lengths), 192, requires_grad=True) for _ in range(3)]
    offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])

    def by_image() -> Tensor:
        answers = []
        for row, items in enumerate(plan):
            parts = [lengths[item] for item in items]
            parts += [longest - sum(parts)] if sum(parts) < longest else []
            each = zip(*(x[row].split(parts, 1) for x in (q, k, v)), strict=True)
            answers += [F.scaled_dot_product_attention(*(x[None] for x in own)) for own in each]
        return torch.cat(answers, 2)

    def nested() -> Tensor:
        sizes = {"min_seqlen": min(lengths), "max_seqlen": max(lengths)}
        made = (torch.nested.nested_tensor_from_jagged(x, offsets, **sizes) for x in flat)
        return F.scaled_dot_product_attention(*(x.unflatten(-1, [3, 64]).transpose(1, 2) for x in made)).values()

    def flex() -> Tensor:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        def same(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return owners[b, i] == owners[b, j]

        blocks = create_block_mask(same, len(plan), None, longest, longest, device="cpu")
        answer = torch.compile(flex_attention)(q, k, v, block_mask=blocks)
        assert isinstance(answer, Tensor)
        return answer

    masked = lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # noqa: E731
    return {"masked": masked, "image by image": by_image, "nested tensors": nested, "flex_attention": flex}


def measure_attention(lengths: Sequence[int], rounds: int) -> list[Attention]:
    """Milliseconds, forward and backward, in turns; or why a kind does not run."""
    found = []
    for sequence in SEQUENCES:
        kinds = kinds_of_attention(lengths, sequence)
        seconds: dict[str, list[float]] = {name: [] for name in kinds}
        reasons: dict[str, str] = {}
        for round_number in range(rounds + 1):
            for name, run in kinds.items():
                if name in reasons:
                    continue
                started = time.perf_counter()
                try:
                    run().sum().backward()  # type: ignore[no-untyped-call]
                except Exception as error:  # what a kind cannot do is its result
                    reasons[name] = str(error).strip().splitlines()[0][:100]
                    continue
                if round_number:
                    seconds[name].append(time.perf_counter() - started)
        for name in kinds:
            ms = None if name in reasons else 1000 * median(seconds[name])
            found.append(Attention(sequence, name, ms, reasons.get(name)))
        tell(f"attention in sequences of {sequence}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--model", default="navit_tiny_patch16")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sequence", type=int, default=2 * (SIDE // PATCH) ** 2, help="tokens, the default's")
    parser.add_argument("--out", type=Path, default=Path("out/packing"), help="folder of measurements")
    parser.add_argument("--page", type=Path, default=MEASURED / "packing.md", help="the page to write")
    parser.add_argument("--page-only", action="store_true")
    options = parser.parse_args()
    file = options.out / "record.json"
    if not options.page_only:
        torch.set_num_threads(options.threads)
        dataset = open_dataset(options.images)
        sizes = [dataset.image(row).size for row in range(len(dataset))]
        proportions = [width / height for width, height in sizes]
        chosen = dataset.sample(options.batch)
        images = [_tensor(chosen.image(row)) for row in range(len(chosen))]
        generator = torch.Generator().manual_seed(2)
        counts = [
            math.prod(grid_of(each, LEAST * (1 + float(torch.rand((), generator=generator))), PATCH))
            for each in proportions
        ]
        record = Record(
            model=options.model,
            photographs=len(dataset),
            squares=sum(width == height for width, height in sizes),
            batch=options.batch,
            sequence=options.sequence,
            threads=options.threads,
            rounds=options.rounds,
            padding=measure_padding(proportions, 128),
            steps=[
                step
                for least in (SIDE, LEAST)
                for step in measure_steps(images, options.model, options.sequence, options.rounds, least)
            ],
            attention=measure_attention(counts[:64], options.rounds),
        )
        options.out.mkdir(parents=True, exist_ok=True)
        write_record(record, file)
    write_packing(read_record(file, Record), options.page)


def _tensor(image: object) -> Tensor:
    import numpy as np

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


if __name__ == "__main__":
    main()
