"""Networks that are the same and yet take other images: weights cannot tell which of them a file holds."""

from __future__ import annotations

import dataclasses

from mobilevit_sdk.checkpoints.beside.files import release_of
from mobilevit_sdk.checkpoints.match import Match
from mobilevit_sdk.checkpoints.preparation import Preparation
from mobilevit_sdk.models.registry import model_entries


def with_note_on_twins(match: Match, preparation: Preparation) -> Match:
    """The match with a note on registered models of the same config whose images have another mean and std.

    Where a file beside it, or the caller, says how images are prepared, nothing is left to tell.
    """
    if match.spec.config.get("dilated") is False:  # DC5 dilates kernels that have the same shapes
        name = match.spec.model
        note = f"weights do not tell {name} from {name}_dc5: taken for the first; if not, say `model={name}_dc5`"
        return dataclasses.replace(match, notes=(*match.notes, note))
    spec, entries = match.spec, model_entries(match.spec.family)
    own = next((entry for entry in entries if entry.name == spec.model), None)
    stated = spec.preprocessing_source != release_of(match.key_map.release, spec)
    if own is None or spec.preprocessing.mean != own.info.preprocessing.mean:
        return match  # the release tells
    if stated or preparation.decided >= {"mean", "std"}:
        return match
    twins = [
        entry.name
        for entry in entries
        if entry.config == own.config and entry.info.preprocessing.mean != own.info.preprocessing.mean
    ]
    if not twins:
        return match
    note = (
        f"{own.name} and {' and '.join(twins)} are one network with two ways to prepare images: taken for {own.name} "
        f"(mean {list(spec.preprocessing.mean)}, std {list(spec.preprocessing.std)}); if it is the other, say so by "
        f"`model={twins[0]}`"
    )
    return dataclasses.replace(match, notes=(*match.notes, note))
