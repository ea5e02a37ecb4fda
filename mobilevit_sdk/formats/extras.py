"""Files for a format's own developer tools, which may stand beside a phone file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import msgspec
import numpy as np

from mobilevit_sdk.spec import ModelSpec, Strict

if TYPE_CHECKING:
    from torch import nn

    from mobilevit_sdk.formats.quantization import Quantization

ExtraKind = Literal["bundle", "etrecord"]


class Extra(Strict, frozen=True):
    """A file beside a phone file. Of a bundle, `atol` is how far off PyTorch's answers its own may be."""

    kind: ExtraKind
    file: str
    bytes: int
    sha256: str
    atol: float | msgspec.UnsetType = msgspec.UNSET


@runtime_checkable
class WritesExtras(Protocol):
    """A converter that writes files for developer tools: a bundle of test vectors, a record of the conversion."""

    def refuses_extra(self, kind: ExtraKind, spec: ModelSpec) -> str | None:
        """Why there is no such file for a network of this spec, and what to do; None where there is one."""
        ...

    def convert_recorded(
        self,
        graph: nn.Module,
        spec: ModelSpec,
        precision: str,
        path: Path,
        record: Path,
        quantization: Quantization | None = None,
    ) -> None:
        """`Converter.convert`, which also writes a record of the conversion to `record`."""
        ...

    def bundle(
        self,
        path: Path,
        precision: str,
        images: Sequence[np.ndarray],
        answers: Sequence[np.ndarray],
        atol: float,
        bundled: Path,
    ) -> str | None:
        """Write the phone file and its test vectors to `bundled` as one file, and run that. Called in a child process.

        `images` are RGB uint8 [3, H, W], and `answers` PyTorch's, float32, all outputs of one image in a row. Returns
        why it was not run, or None. Raises ToolchainError where an answer is further off than `atol`.
        """
        ...
