"""How a caller wants a checkpoint to be fed, over what the file and the files beside it say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import msgspec

from mobilevit_sdk.checkpoints.beside.preprocessing import FIELDS, changed, check_scale, in_order, read_preprocessing
from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.spec import HEADER, ModelSpec, Windows, check_image_sizes, in_pixels
from mobilevit_sdk.text import one_line


@dataclass(frozen=True)
class Preparation:
    """What a caller decides; the rest stays as the checkpoint has it.

    `image_size` is height and width in pixels; what share of a picture is cropped away stays unless `fields` say
    otherwise. `image_sizes` are several, all for one phone file, in place of it. `windows` says what becomes of a
    trained network's windows at another size: "keep" or "scale", by default what the family's own code does.
    `preprocessing` is a `preprocessor_config.json` of transformers or a `config.json` of timm, and `fields` are fields
    of Preprocessing, which come after it. `license` is that of the weights.
    """

    image_size: tuple[int, int] | None = None
    windows: Windows | None = None
    image_sizes: tuple[tuple[int, int], ...] = ()
    preprocessing: Path | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    license: str | None = None

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.fields) - FIELDS):
            raise RequestError(f"preprocessing has no {', '.join(unknown)}; it has {', '.join(sorted(FIELDS))}")
        if self.windows not in (None, *get_args(Windows)):
            raise RequestError(f"no windows {self.windows!r}; {suggest(str(self.windows), get_args(Windows))}")
        if self.image_size is not None and min(self.image_size) < 1:
            raise RequestError(f"an image size is positive, not {in_pixels(self.image_size)}")
        try:
            if self.image_sizes:
                check_image_sizes(self.image_sizes)
        except ValueError as error:
            raise RequestError(str(error)) from error
        if self.license is not None and not self.license.strip():
            raise RequestError("an empty license says nothing; name it, or leave it out")
        try:
            check_scale(self.fields.get("mean"), self.fields.get("std"))
        except ValueError as error:
            raise RequestError(str(error)) from error

    @property
    def decided(self) -> frozenset[str]:
        """The fields of Preprocessing that nothing beside the checkpoint needs to say."""
        if self.preprocessing is not None:
            return FIELDS
        implied = {"resize_size"} if self.fields.get("resize_mode") == "squash" else set()
        return frozenset(self.fields) | implied | ({"image_size"} if self._size else set())

    @property
    def _size(self) -> tuple[int, int] | None:
        """The one asked for, or the first."""
        return self.image_sizes[0] if self.image_sizes else self.image_size

    def apply(self, spec: ModelSpec, *, trained: bool = True) -> tuple[ModelSpec, tuple[str, ...]]:
        """The spec as the caller wants it, and notes on what that means.

        Without `trained` weights, nothing speaks for windows of another size than the image's. Raises RequestError for
        a file that does not say how images are prepared, and for what the network does not take.
        """
        preprocessing, source, notes = spec.preprocessing, spec.preprocessing_source, tuple[str, ...]()
        if self.preprocessing is not None:
            preprocessing, notes = read_preprocessing(self.preprocessing, preprocessing)
            source = self.preprocessing.name
        size = self._size or self.fields.get("image_size") or preprocessing.image_size
        resized, more = self._resize(spec, size, trained)
        given = [*(["image_size"] if self._size else []), *self.fields]
        try:
            turned = in_order(self.fields.get("channel_order", preprocessing.channel_order), preprocessing)
            fields = turned | dict(self.fields) | {"image_size": size}
            preprocessing = changed(preprocessing.at_size(*size), fields)
        except ValueError as error:
            raise RequestError(f"images cannot be prepared like this: {one_line(str(error))}") from error
        if "resize_size" in fields and preprocessing.resize_mode == "shorter" and preprocessing.resize_size < min(size):
            raise RequestError(
                f"a shorter side of {preprocessing.resize_size} pixels does not hold the crop of {size[0]}x{size[1]}"
            )
        if given:
            rest = "" if set(given) >= FIELDS else f"; the rest: {source or HEADER}"
            source = f"{', '.join(given)} as asked for{rest}"
        license = self.license or spec.license
        changes = {"preprocessing": preprocessing, "preprocessing_source": source, "license": license}
        found = msgspec.structs.replace(resized, **changes)
        if self.image_sizes:
            found, others = self._at_all_sizes(spec, found, trained)
            more = tuple(dict.fromkeys((*more, *others)))
        return found, (*notes, *more)

    def _at_all_sizes(self, spec: ModelSpec, first: ModelSpec, trained: bool) -> tuple[ModelSpec, tuple[str, ...]]:
        """With all sizes beside the first, and notes on those."""
        from mobilevit_sdk.models.registry import model_config
        from mobilevit_sdk.models.resize import spec_at_entry

        if spec.features == "map":
            raise RequestError("maps of features have another shape at each image size: take one size, or `pooled`")
        windows: Windows | None = None
        if _windows(spec):
            windows = self.windows or (model_config(spec).windows_when_resized if trained else "scale")
        notes: list[str] = []
        for size in self.image_sizes:
            resized = spec_at_entry(spec, size, windows)
            if size == self.image_sizes[0]:
                first = msgspec.structs.replace(first, config=resized.config)
            elif trained:
                kept = windows if size != spec.preprocessing.image_size else None
                notes += self._window_notes(spec, resized, kept)
        sizes = {"image_sizes": self.image_sizes, "windows": windows or msgspec.UNSET}
        return msgspec.structs.replace(first, **sizes), tuple(notes)

    def _resize(self, spec: ModelSpec, size: tuple[int, int], trained: bool) -> tuple[ModelSpec, tuple[str, ...]]:
        from mobilevit_sdk.models.registry import model_config, spec_at_size  # torch, which not every command needs

        windows, config = self.windows, model_config(spec)
        if windows is None and trained and size != spec.preprocessing.image_size:
            windows = config.windows_when_resized
        resized = spec_at_size(spec, *size, windows)
        return resized, tuple(self._window_notes(spec, resized, windows)) if trained else ()

    def _window_notes(self, spec: ModelSpec, resized: ModelSpec, windows: Windows | None) -> Iterator[str]:
        own, at = _windows(spec), f"at {in_pixels(resized.preprocessing.image_size)} pixels"
        if self.windows and not own:
            yield f"`windows` has no effect: {spec.model} has none"
        elif resized.config != spec.config and not own:
            yield f"positions were interpolated from {_pixels(spec)} to {_pixels(resized)} pixels"
        elif resized.config != spec.config:
            yield f"windows of {own} positions became {_windows(resized)} {at}, and position biases were interpolated"
        elif own and windows == "keep":
            yield f"windows stay {own} positions {at}, as in the file" + (
                "" if self.windows else "; `windows=scale` brings them to the image"
            )


def _windows(spec: ModelSpec) -> str:
    return ", ".join(map(str, spec.config.get("window_sizes", ())))


def _pixels(spec: ModelSpec) -> str:
    return "x".join(map(str, spec.config["image_size"]))


AS_STATED = Preparation()
