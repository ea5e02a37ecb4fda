"""The device report as JSON Schema, for people who write an app: `python -m mobilevit_sdk.parity.device.schema`."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from mobilevit_sdk.parity.device.types import DeviceReport


def json_schema() -> dict[str, Any]:
    """The schema of one document. What it cannot say, the reader checks too: digest, percentiles, cases, lengths."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Device report of a phone",
        **msgspec.json.schema(DeviceReport),
    }


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))
