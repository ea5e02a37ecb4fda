"""What each MIL operator means: one table from its kind to a small function whose parameters are MIL's.

Functions take float32, integer or bool tensors, Python scalars and strings, and compute without rounding to float16;
the program does that. What a function does not cover it refuses with ValueError; nothing is approximated in silence.
The meanings are those of Apple's MIL operator reference, https://apple.github.io/coremltools/source/.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mobilevit_converters.coreml.runtimes.reference.operators.compressed import COMPRESSED
from mobilevit_converters.coreml.runtimes.reference.operators.elementwise import ELEMENTWISE
from mobilevit_converters.coreml.runtimes.reference.operators.layers import LAYERS
from mobilevit_converters.coreml.runtimes.reference.operators.quantization import QUANTIZATION
from mobilevit_converters.coreml.runtimes.reference.operators.shapes import SHAPES

OPERATORS: dict[str, Callable[..., Any]] = {**COMPRESSED, **ELEMENTWISE, **LAYERS, **QUANTIZATION, **SHAPES}
