"""A model card from facts: every number was measured and says where, and what nobody measured says so."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from mobilevit_sdk.artifacts.artifact import ArtifactLike, Manifest
from mobilevit_sdk.parity.device import DeviceReportLike
from mobilevit_sdk.publishing.facts import Facts, Measured, collect_facts
from mobilevit_sdk.publishing.front_matter import front_matter, stated_accuracy
from mobilevit_sdk.text import count, markdown, one_line, percent, shorten

NOT_MEASURED = "not measured"
CARD = "README.md"
_EXTRAS = {"coreml", "coreai", "tflite", "executorch", "onnx"}


def model_card(
    artifacts: ArtifactLike | Sequence[ArtifactLike],
    *,
    verdicts: Path | str | None = None,
    device_reports: DeviceReportLike | Sequence[DeviceReportLike] = (),
    repository: str | None = None,
) -> str:
    """The model card of artifacts of one checkpoint, in Markdown with the hub's YAML at its top.

    `verdicts` is the verdicts.json of `verify --report`, by default the one in a given folder; `device_reports` are
    those of phones; `repository`, such as `organization/name`, stands in the commands that fetch the files. Raises as
    `collect_facts` does.
    """
    return render(collect_facts(artifacts, verdicts=verdicts, device_reports=device_reports), repository)


def render(facts: Facts, repository: str | None = None) -> str:
    """The card of these facts."""
    spec = facts.spec
    height, width = spec.preprocessing.image_size
    parts = [
        f"---\n{front_matter(facts).to_yaml()}\n---",
        f"# {markdown(spec.model)} for phones",
        f"{spec.describe()}, from images of {height} x {width} pixels. License of the weights: "
        f"{markdown(spec.license) if spec.license else 'not stated by the checkpoint'}.",
        *_section("Files", _files(facts)),
        *_section("Do they answer as PyTorch does?", _parity(facts)),
        *_section("Accuracy", _accuracy(facts)),
        *_section("On phones", _phones(facts)),
        *_section("Use", _use(facts)),
        *_section("Check it yourself", _check(facts, repository)),
        *_section("Where it comes from", _origin(facts)),
        *_section("Limits", _limits(facts)),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, lines: Iterator[str]) -> tuple[str, str]:
    return f"## {title}", "\n".join(lines)


def _files(facts: Facts) -> Iterator[str]:
    yield "| file | format | precision | size | made for | delegate calls | runs from |"
    yield "| --- | --- | --- | ---: | --- | --- | --- |"
    for artifact in facts.artifacts:
        manifest = artifact.manifest
        made_for = f"{manifest.target}{f', {manifest.backend}' if manifest.backend else ''}"
        cells = [f"{artifact.path.parent.name}/{manifest.file}", manifest.format, manifest.precision]
        cells += [
            f"{manifest.bytes / 1e6:.2f} MB",
            made_for,
            _delegates(manifest),
            manifest.oldest_system or "not stated",
        ]
        yield f"| {' | '.join(map(markdown, cells))} |"


def _delegates(manifest: Manifest) -> str:
    if manifest.delegates is None or manifest.undelegated_ops is None:
        return "the device decides"
    outside = sum(manifest.undelegated_ops.values())
    return f"{manifest.delegates}, {count(outside, 'operator')} outside"


def _parity(facts: Facts) -> Iterator[str]:
    yield "Each file was asked about stored images, and its answers compared with PyTorch's; the worst image decides."
    yield "SQNR is the signal over the error: 20 dB are errors of a tenth of the scores, 40 dB of a hundredth."
    yield ""
    yield "| file | on | verdict | worst SQNR | same best class |"
    yield "| --- | --- | --- | ---: | ---: |"
    for artifact, rows in zip(facts.artifacts, facts.verdicts, strict=True):
        name, ran = markdown(artifact.path.parent.name), [row for row in rows if row.status != "unavailable"]
        if not ran:
            yield f"| {name} | - | {NOT_MEASURED} | {NOT_MEASURED} | {NOT_MEASURED} |"
        for row in ran:
            yield f"| {name} | {markdown(row.place)} | {_verdict(row)} |"


def _verdict(row: Measured) -> str:
    said = f"{row.status}: {row.reason}" if row.reason else row.status
    sqnr = f"{row.sqnr_db.worst:.1f} dB" if row.sqnr_db else "-"
    return " | ".join((markdown(said), sqnr, percent(row.top1_agreement)))


def _accuracy(facts: Facts) -> Iterator[str]:
    yield "| network | images | accuracy |"
    yield "| --- | --- | --- |"
    stated = stated_accuracy(facts)
    if stated:
        total = facts.provenance.get("test_images")
        images = f"{total:,} of " if isinstance(total, int) and not isinstance(total, bool) else ""
        values = ", ".join(f"{metric} {percent(value)}" for _, metric, value in stated)
        yield f"| the checkpoint in PyTorch, as its header states | {images}{markdown(stated[0][0])} | {values} |"
    else:
        yield f"| the checkpoint in PyTorch | - | {NOT_MEASURED} |"
    for artifact in facts.artifacts:
        record = artifact.manifest.quantization
        judgment = record.judgment if record else None
        words, images = NOT_MEASURED, "-"
        if record and judgment:
            words, images = (
                markdown(judgment.in_words()),
                f"{count(judgment.images, 'image')} of {markdown(record.images)}",
            )
        yield f"| {markdown(artifact.path.parent.name)} | {images} | {words} |"


def _phones(facts: Facts) -> Iterator[str]:
    if not facts.phones:
        yield f"Speed and answers on a phone: {NOT_MEASURED}."
        return
    for name, where, values in facts.phones:
        said = "; ".join(f"{markdown(key)} {markdown(value)}" for key, value in values)
        yield f"- {markdown(name)} on {markdown(where)}: {said or 'answers alone, no latency'}"


def _use(facts: Facts) -> Iterator[str]:
    alike: dict[tuple[str, ...], list[str]] = {}
    for artifact in facts.artifacts:
        alike.setdefault(tuple(_feeding(artifact.manifest)), []).append(markdown(artifact.path.parent.name))
    for lines, names in alike.items():
        yield f"- {', '.join(names)}"
        yield from (f"    - {line}" for line in lines)
    if labels := facts.spec.labels:
        yield ""
        yield f"Classes ({len(labels)}): {markdown(shorten(labels, 20))}."


def _feeding(manifest: Manifest) -> Iterator[str]:
    if manifest.app_input:
        yield f"the app resizes: {markdown(manifest.app_input.resizing.describe())}"
        yield f"and feeds: {markdown(manifest.app_input.describe())}"
    for word, tensors in (("input", manifest.inputs), ("output", manifest.outputs)):
        for tensor in tensors:
            shape = f" {list(tensor.shape)}" if tensor.shape else ""
            yield f"{word}: {markdown(f'{tensor.name} {tensor.dtype}{shape}')}"


def _check(facts: Facts, repository: str | None) -> Iterator[str]:
    extras = sorted({artifact.manifest.format for artifact in facts.artifacts} & _EXTRAS)
    place = shlex.quote(one_line(repository.rpartition("/")[2])) if repository else "."
    yield "The images that were asked, and PyTorch's answers, are in `reference.safetensors` beside each file."
    yield ""
    yield "```console"
    yield f"$ pip install 'mobilevit-sdk[{','.join(extras)}]'"
    if repository:
        yield f"$ hf download {shlex.quote(one_line(repository))} --local-dir {place}"
    yield f"$ mobilevit verify {place}"
    yield "```"


def _origin(facts: Facts) -> Iterator[str]:
    origin, stated = facts.origin, facts.provenance
    if origin.sha256 is None:
        yield f"- random weights, seed {origin.random_weights_seed}: it knows nothing"
    else:
        name = Path(origin.source).name if not origin.source.startswith("hf-hub:") else origin.source
        yield f"- checkpoint: {markdown(name)}, SHA-256 {origin.sha256}"
    for key, word in (("trained_by", "trained by"), ("data", "trained on"), ("teacher", "teacher")):
        if isinstance(stated.get(key), str):
            yield f"- {word}: {markdown(stated[key])}"
    versions = {
        f"{name} {version}" for artifact in facts.artifacts for name, version in artifact.manifest.tools.items()
    }
    yield f"- converted with: {markdown(', '.join(sorted(map(one_line, versions))))}"
    yield f"- this card: mobilevit-sdk {metadata.version('mobilevit-sdk')}, from the files' manifests"


def _limits(facts: Facts) -> Iterator[str]:
    yield "- Parity says that a file answers as its checkpoint does, not that the checkpoint is right."
    if not any(row.device for rows in facts.verdicts for row in rows):
        yield "- No phone has run these files: a phone's drivers can compute otherwise."
    for artifact in facts.artifacts:
        name = markdown(artifact.path.parent.name)
        for reason in artifact.reasons:
            yield f"- {name} was rejected when it was converted: {markdown(reason)}"
        for warning in artifact.manifest.warnings:
            yield f"- {name}: {markdown(warning)}"
        for form, number in (artifact.manifest.hazards or {}).items():
            yield f"- {name}: GPUs of phones are reported to refuse or to get wrong {number} x {markdown(form)}"
