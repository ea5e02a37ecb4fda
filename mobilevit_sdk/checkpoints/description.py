"""What names and shapes do not tell of a public checkpoint: what stands beside it, its release, its name."""

from __future__ import annotations

import dataclasses

import msgspec

from mobilevit_sdk.checkpoints import hub
from mobilevit_sdk.checkpoints.beside.files import read_beside
from mobilevit_sdk.checkpoints.match import Match
from mobilevit_sdk.checkpoints.preparation import Preparation
from mobilevit_sdk.checkpoints.tensor_file import TensorFile
from mobilevit_sdk.checkpoints.twins import with_coordinates, with_dilation, with_note_on_twins


def describe(match: Match, file: TensorFile, preparation: Preparation, *, chosen: bool) -> Match:
    """The match of a public checkpoint with what else is known: options that no weights show, labels, preprocessing.

    `chosen` says whether the caller insists on the variant. The license is known of the releases' own repositories
    alone: what was fine-tuned from them looks the same. Raises what `read_beside` raises.
    """
    path, source, release = file.version.path, file.source, match.key_map.release
    classifies = not match.is_backbone
    given = preparation.decided
    beside = read_beside(path, source, match.spec, release, classifies=classifies, given=given, chosen=chosen)
    is_released, notes = source.startswith(hub.RELEASES), (*match.notes, *beside.notes)
    if beside.license and not is_released and preparation.license is None:
        notes += (
            f"{hub.CONFIG} names the license {beside.license}, perhaps of what the weights began from: not taken",
        )
    labels = beside.labels
    if labels is None and len(match.key_map.labels) == match.spec.num_classes:
        labels = match.key_map.labels
        notes += (match.key_map.labels_note,)
    spec = msgspec.structs.replace(
        match.spec,
        config=match.spec.config | beside.config,
        labels=labels,
        preprocessing=beside.preprocessing,
        preprocessing_source=beside.preprocessing_source,
        license=match.spec.license if is_released else None,
        provenance={"source": source if source.startswith(hub.PREFIX) else path.name, "layout": release},
    )
    config = msgspec.structs.replace(match.config, **beside.config)
    described = dataclasses.replace(match, spec=spec, config=config, notes=notes)
    if "dilated" in spec.config:
        stated = chosen or "dilated" in beside.config
        return with_dilation(described, None if stated else source if source.startswith(hub.PREFIX) else path.name)
    if spec.family == "navit":
        return with_coordinates(described, stated=chosen or "coordinates" in beside.config)
    return described if chosen else with_note_on_twins(described, preparation)
