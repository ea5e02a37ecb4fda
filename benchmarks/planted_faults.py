"""Plant faults into artifacts and ask the gate and bisect about them; write docs/measured/planted-faults.md.

    python benchmarks/planted_faults.py --count 200

A fault is planted into a small network of each family after its reference vectors were taken and before it is
converted: manifest and vectors stay those of the healthy network, as when a converter or a person makes a mistake.
Kinds, places and formats are drawn from `--seed`. Results are appended to `--out`, so an interrupted run resumes. The
conversions of one family to one format share a process and a fresh conversion; the rest is what `mobilevit verify` and
`mobilevit bisect` do. Exit code 1 when a bar was missed.
"""

from __future__ import annotations

import argparse
import copy
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from planted_faults_page import Fault, Outcome, write_table
from shared import MEASURED, append_to_log, read_log
from small_networks import small_specs
from torch import Tensor, nn

from mobilevit_sdk.artifacts.artifact import Artifact, Manifest
from mobilevit_sdk.artifacts.reference import reference_of
from mobilevit_sdk.bisection.folded import weight_holders
from mobilevit_sdk.bisection.graph import TracedGraph, block_of
from mobilevit_sdk.bisection.search import diagnose, places_of, worst_cases
from mobilevit_sdk.bisection.taps import tapped_values
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.formats.converter import Converter, find_converter
from mobilevit_sdk.formats.runtime_ref import RuntimeRef
from mobilevit_sdk.layers import Attention, CascadedGroupAttention, PositionBias, SeparableAttention
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.parity import THRESHOLDS, compare
from mobilevit_sdk.parity.gate import judge
from mobilevit_sdk.parity.runs import Run, run_cases
from mobilevit_sdk.processes.child import emit, run_in_child
from mobilevit_sdk.spec import ModelSpec, Origin

FAMILIES = ("mobilevit", "mobilevitv2", "tiny_vit", "efficientvit")
KINDS = ("wrong weight", "swapped projections", "dropped bias")
# Format, backend, precision; the runtime is the first that shows its values on Linux.
FORMATS = {
    "coreml fp16": ("coreml", None, "fp16", "coreml-reference"),
    "coreml fp32": ("coreml", None, "fp32", "coreml-reference"),
    "tflite fp32": ("tflite", None, "fp32", "litert-cpu"),
    "tflite fp16": ("tflite", None, "fp16", "litert-cpu"),
    "executorch fp32": ("executorch", "xnnpack", "fp32", "executorch"),
    "executorch-coreml fp16": ("executorch", "coreml", "fp16", "coreml-reference"),
}


def draw_faults(count: int, seed: int) -> list[Fault]:
    """Families and formats in turn; in each pair of them kinds and places by chance, and no fault twice."""
    chance = random.Random(seed)
    specs = small_specs()
    places = {family: fault_places(build_model(specs[family])) for family in FAMILIES}
    left: dict[tuple[str, str, str], list[str]] = {}
    faults = []
    for number in range(count):
        family, label = list(places)[number % len(places)], list(FORMATS)[number // len(places) % len(FORMATS)]
        kind = chance.choice(KINDS)
        if (family, label, kind) not in left:
            left[family, label, kind] = chance.sample(places[family][kind], len(places[family][kind]))
        if kind != "wrong weight" and left[family, label, kind]:
            module = left[family, label, kind].pop()
        else:
            kind, module = "wrong weight", chance.choice(places[family]["wrong weight"])
        faults.append(Fault(number, family, label, kind, module, chance.getrandbits(32)))
    return faults


def fault_places(model: nn.Module) -> dict[str, list[str]]:
    """For each kind the modules that it can be planted into."""
    modules = list(model.named_modules())
    heads = [
        f"{name}.qkv.{head}"
        for name, layer in modules
        if isinstance(layer, CascadedGroupAttention)
        for head in layer.positions
    ]
    return {
        "wrong weight": [name for name, layer in modules if isinstance(layer, (nn.Conv2d, nn.Linear))],
        "swapped projections": heads
        + [f"{name}.qkv" for name, layer in modules if isinstance(layer, (Attention, SeparableAttention))],
        "dropped bias": [
            name for name, layer in modules if _has_weights(layer) and isinstance(getattr(layer, "bias", None), Tensor)
        ],
    }


@torch.no_grad()
def plant(model: nn.Module, fault: Fault) -> None:
    """Change the network in place."""
    chance = random.Random(fault.seed)
    layer = model.get_submodule(fault.module)
    if fault.kind == "swapped projections":
        _swap(model, fault.module)
    elif fault.kind == "dropped bias":
        assert isinstance(layer.bias, Tensor)
        layer.bias.zero_()
    else:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        at = chance.randrange(weight.numel())
        weight.view(-1)[at] += chance.choice((-1, 1)) * chance.uniform(1, 4) * float(weight.square().mean().sqrt())


def _has_weights(layer: nn.Module) -> bool:
    return isinstance(layer, (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.BatchNorm1d, nn.LayerNorm, nn.GroupNorm))


def _swap(model: nn.Module, module: str) -> None:
    """q and k change places; k and v where q is a single row."""
    qkv = model.get_submodule(module)
    owner = model.get_submodule(module.partition(".qkv")[0])
    if isinstance(owner, SeparableAttention):
        start, width = 1, owner.value_dim
    elif isinstance(owner, Attention):
        start, width = 0, owner.num_heads * owner.key_dim
    else:
        assert isinstance(owner, CascadedGroupAttention)
        start, width = 0, owner.key_dim
    for tensor in qkv.state_dict().values():
        if tensor.ndim:  # not the count of batches
            one, other = tensor[start : start + width].clone(), tensor[start + width : start + 2 * width].clone()
            tensor[start : start + width], tensor[start + width : start + 2 * width] = other, one


def run_group(faults: Sequence[Fault]) -> None:
    """In a child process: all faults of one family and format, an Outcome emitted for each."""
    torch.set_num_threads(1)
    family, label = faults[0].family, faults[0].format
    spec = small_specs()[family]
    checkpoint = random_checkpoint(spec, seed=1)
    visible_tables(checkpoint.model)
    format_name, backend, precision, runtime = FORMATS[label]
    converter = find_converter(format_name, backend)
    cases = builtin_cases(spec.preprocessing)
    reference = reference_of(checkpoint.model, spec.preprocessing, cases)
    threshold = THRESHOLDS[precision]
    modules, holders = dict(checkpoint.model.named_modules()), weight_holders(checkpoint.model)
    graph = TracedGraph(checkpoint.model, converter.target, spec)

    def tap(path: Path, chosen: Sequence) -> tuple:
        taps, values = tapped_values(RuntimeRef(format_name, backend, runtime, path), chosen)
        return taps, list(values)

    with tempfile.TemporaryDirectory() as folder:
        fresh = _convert(converter, checkpoint.model, spec, precision, Path(folder) / "fresh")
        places = places_of(graph, cases[0], tap(fresh, cases[:1]), precision)
        for fault in faults:
            started = time.monotonic()
            model = copy.deepcopy(checkpoint.model)
            plant(model, fault)
            file = _convert(converter, model, spec, precision, Path(folder) / str(fault.number))
            effect = compare(reference.answers, reference_of(model, spec.preprocessing, cases).answers).sqnr_db.worst
            scores = run_cases(RuntimeRef(format_name, backend, runtime, file), cases)
            artifact = Artifact(file, _manifest(file, spec, label, converter))
            verdict = judge(Run(artifact, runtime, "", scores, reference))
            chosen = worst_cases(spec, reference, scores)
            found = diagnose(verdict, graph, chosen, tap(file, chosen), tap(fresh, chosen), places)
            assert verdict.agreement is not None
            emit(
                Outcome(
                    fault,
                    block=block_of(holders.get(fault.module, fault.module), modules),
                    effect_db=effect,
                    effect_counts=effect < threshold.sqnr_db,
                    caught=verdict.status == "failed",
                    sqnr_db=verdict.agreement.sqnr_db.worst,
                    named_block=found.culprit.block if found.culprit else None,
                    named_layer=found.culprit.layer if found.culprit else None,
                    status=found.status,
                    seconds=round(time.monotonic() - started, 1),
                )
            )


@torch.no_grad()
def visible_tables(model: nn.Module) -> None:
    """Position biases as large as the scores that they are added to."""
    generator = torch.Generator().manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, PositionBias):
            layer.table.normal_(generator=generator)


def _convert(converter: Converter, model: nn.Module, spec: ModelSpec, precision: str, folder: Path) -> Path:
    folder.mkdir()
    file = folder / f"{spec.model}{converter.suffix}"
    converter.convert(deploy(model, converter.target, spec), spec, precision, file)
    return file


def _manifest(file: Path, spec: ModelSpec, label: str, converter: Converter) -> Manifest:
    """As much of a manifest as is read of it."""
    format_name, backend, precision, _ = FORMATS[label]
    return Manifest(
        file=file.name,
        format=format_name,
        precision=precision,
        backend=backend,
        target=converter.target,
        bytes=0,
        sha256="",
        spec=spec,
        config_sha256=spec.config_sha256,
        origin=Origin(source=spec.model, layout="random weights", random_weights_seed=1),
        tools={},
        seconds=0.0,
        peak_memory_bytes=0,
        inputs=(),
        outputs=(),
        operators={},
        max_rank=4,
        delegates=None,
        undelegated_ops=None,
    )


def main() -> int:
    """Run what is not done yet, and write the table; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="faults in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/planted-faults.jsonl"), help="results, one a line")
    parser.add_argument("--page", type=Path, default=MEASURED / "planted-faults.md", help="the page to write")
    options = parser.parse_args()
    faults = draw_faults(options.count, options.seed)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    known = {outcome.fault: outcome for outcome in read_log(options.out, Outcome)}
    done = [known[fault] for fault in faults if fault in known]
    groups: dict[tuple[str, str], list[Fault]] = defaultdict(list)
    for fault in faults:
        if fault not in known:
            groups[fault.family, fault.format].append(fault)

    def keep(outcome: object) -> None:
        if not isinstance(outcome, Outcome):
            return  # `run_cases` counts its cases
        done.append(outcome)
        append_to_log(outcome, options.out)
        fault = outcome.fault
        said = "right" if outcome.right else f"WRONG, named {outcome.named_layer}"
        counts = "" if outcome.effect_counts else ", below the threshold"
        caught = "caught" if outcome.caught else "passed" if not outcome.effect_counts else "MISSED"
        print(
            f"[{len(done)}/{len(faults)}] {fault.format} {fault.family}, {fault.kind} in {fault.module}: effect "
            f"{outcome.effect_db:.1f} dB{counts}, {caught}, {said}, {outcome.seconds:.0f} s",
            flush=True,
        )

    for group in groups.values():
        run_in_child(run_group, group, on_event=keep, threads=1)
    done.sort(key=lambda each: each.fault.number)
    write_table(
        done, options.page, f"python benchmarks/planted_faults.py --count {options.count} --seed {options.seed}"
    )
    counting = [each for each in done if each.effect_counts]
    right = sum(each.right for each in counting)
    return 0 if all(each.caught for each in counting) and right >= 0.95 * len(counting) else 1


if __name__ == "__main__":
    import planted_faults  # under its own name, by which the child process finds what it is to run

    sys.exit(planted_faults.main())
