"""Networks that are the same and yet take other images: weights cannot tell which of them a file holds."""

from __future__ import annotations

import dataclasses
import re
from typing import cast

import msgspec

from mobilevit_sdk.checkpoints.beside.files import release_of
from mobilevit_sdk.checkpoints.match import Match
from mobilevit_sdk.checkpoints.preparation import Preparation
from mobilevit_sdk.models.navit import NaViTConfig
from mobilevit_sdk.models.registry import model_entries
from mobilevit_sdk.text import one_line

_DC5 = "_dc5"


def with_note_on_twins(match: Match, preparation: Preparation) -> Match:
    """The match with a note on registered models of the same config whose images have another mean and std.

    Where a file beside it, or the caller, says how images are prepared, nothing is left to tell.
    """
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


def with_coordinates(match: Match, *, stated: bool) -> Match:
    """A match of NaViT under the name of its variant: weights do not show what positions make of a rectangle.

    Where neither the caller nor a file said it, the first variant with such positions is taken, and a note says so.
    """
    spec, config, notes = match.spec, match.config, match.notes
    entries = {entry.name: cast("NaViTConfig", entry.config) for entry in match.key_map.entries()}
    alike = {
        name: each.coordinates
        for name, each in entries.items()
        if each.positions == config.positions and name.partition("_")[0] == spec.model.partition("_")[0]
    }
    if not stated and spec.model not in alike and alike:  # named after another variant, which is as large
        coordinates = next(iter(alike.values()))
        config = msgspec.structs.replace(config, coordinates=coordinates)
        spec = msgspec.structs.replace(spec, config=spec.config | {"coordinates": coordinates})
    fitting = [name for name, each in alike.items() if each == config.coordinates]
    name = spec.model if spec.model in fitting else next(iter(fitting), spec.model)
    others = [each for each in alike if alike[each] != config.coordinates]
    if not stated and others:
        notes += (
            f"weights do not tell {name} from {' or '.join(others)}: taken for {name}; `model={others[0]}` if not",
        )
    return dataclasses.replace(match, spec=msgspec.structs.replace(spec, model=name), config=config, notes=notes)


def with_dilation(match: Match, name: str | None) -> Match:
    """A detector's match under the name of its variant: DC5 dilates kernels that have the same names and shapes.

    Where neither the caller nor a file said which it is, the checkpoint's `name` is a hint, and a note says what it was
    taken for.
    """
    plain = match.spec.model.removesuffix(_DC5)
    notes, config = match.notes, match.config
    if name is not None:
        dilated = re.search("(?<![a-z0-9])dc5(?![a-z0-9])", name.lower()) is not None
        config = msgspec.structs.replace(config, dilated=dilated)
        taken, other = (f"{plain}{_DC5}", plain) if dilated else (plain, f"{plain}{_DC5}")
        why = f"as its name says, {one_line(name, 60)!r}" if dilated else "as its name does not say DC5"
        notes += (f"weights do not tell {plain} from {plain}{_DC5}: taken for {taken}, {why}; `model={other}` if not",)
    spec = msgspec.structs.replace(
        match.spec,
        model=plain + _DC5 * config.dilated,
        config=match.spec.config | {"dilated": config.dilated},
    )
    return dataclasses.replace(match, spec=spec, config=config, notes=notes)
