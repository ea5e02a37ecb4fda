"""What the extra `tflite` installs: litert-torch converts, ai-edge-litert reads and runs."""

from __future__ import annotations

from functools import partial

from mobilevit_sdk.formats.toolchain import import_optional, installed

availability = partial(installed, extra="tflite")
import_from = partial(import_optional, extra="tflite")
