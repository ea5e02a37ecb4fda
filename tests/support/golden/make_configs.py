"""Write `configs.json`: the files that transformers and timm write beside their weights, for one variant a family.

    cd tests/support; python -m golden.make_configs

It needs what `make.py` needs. Keys: "transformers" -> variant -> "config" and "processor", as `to_dict` gives them, the
processor as its class makes it without arguments; "timm" -> variant -> `config.json`, as timm saves it for the hub.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from golden.make import FOLDER, VARIANTS, _timm, _transformers

CONFIGS = FOLDER / "configs.json"


def _from_transformers(variant: str) -> dict[str, Any]:
    import transformers

    network = _transformers(variant)
    processor = transformers.MobileViTImageProcessor()
    return {"config": network.config.to_dict(), "processor": json.loads(processor.to_json_string())}


def _from_timm(variant: str) -> dict[str, Any]:
    from timm.models._hub import save_config_for_hf

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        save_config_for_hf(_timm(variant), path)
        return json.loads(path.read_text())


def main() -> None:
    variants = {family: names[0] for family, names in VARIANTS.items()}
    configs = {
        "transformers": {each: _from_transformers(each) for each in (variants["mobilevit"], variants["mobilevitv2"])},
        "timm": {each: _from_timm(each) for each in variants.values()},
    }
    lines = (f"{json.dumps(name)}: {json.dumps(each)}" for name, each in configs.items())
    CONFIGS.write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    main()
