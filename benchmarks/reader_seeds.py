"""Small valid files of every kind that `untrusted_readers.py` reads, made once into a folder."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors.torch
import torch
from PIL import Image
from small_artifacts import small_artifacts
from small_networks import small_specs
from torch import Tensor

from mobilevit_sdk.artifacts.artifact import MANIFEST, Artifact, open_artifact
from mobilevit_sdk.artifacts.reference import REFERENCE
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint

FOLDER = "MOBILEVIT_FUZZ_SEEDS"  # the variable of the environment that names where they are kept


@dataclasses.dataclass(frozen=True)
class Seeds:
    """The valid files, one kind by one method; phone files are converted once and kept in `folder`."""

    folder: Path

    @staticmethod
    @cache
    def default() -> Seeds:
        """In the folder that the environment names."""
        return Seeds(Path(os.environ.get(FOLDER, "out/fuzz/seeds")))

    def checkpoint(self) -> Checkpoint:
        return _checkpoint()

    def safetensors(self) -> list[bytes]:
        return [_own_file(), safetensors.torch.save(_few())]

    def torch_zip(self) -> list[bytes]:
        return [_torch(content) for content in _contents()]

    def torch_legacy(self) -> list[bytes]:
        return [_torch(content, _use_new_zipfile_serialization=False) for content in _contents()]

    def npz(self) -> list[bytes]:
        packed, single = io.BytesIO(), io.BytesIO()
        arrays = {"cls": np.ones((1, 1, 4), np.float32), "head/kernel": np.ones((4, 3), np.float32)}
        np.savez(packed, **arrays)
        np.lib.format.write_array(single, np.arange(6, dtype=np.float32).reshape(2, 3))
        return [packed.getvalue(), single.getvalue()]

    def index(self) -> list[bytes]:
        place = dict.fromkeys(_few(), "model.safetensors")
        return [json.dumps({"metadata": {"total_size": 1}, "weight_map": place}).encode()]

    def release(self) -> Mapping[str, bytes]:
        config = {"architectures": ["ViTForImageClassification"], "model_type": "vit", "image_size": 32}
        config |= {"patch_size": 8, "hidden_size": 16, "id2label": {str(i): f"class {i}" for i in range(10)}}
        processor = {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True,
            "size": {"height": 32, "width": 32},
        }
        processor |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2, "do_rescale": True}
        weights = {"model.safetensors": b""}
        return weights | {"config.json": _json(config), "preprocessor_config.json": _json(processor)}

    def class_names(self) -> list[bytes]:
        keyed = {"id2label": {"0": "cat", "1": "dog"}}
        imagenet = {"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}
        return [b"cat\ndog\n", _json(["cat", "dog"]), _json(keyed), _json(imagenet), "\ufeffcat\n".encode("utf-16")]

    def task(self) -> list[bytes]:
        from mobilevit_sdk.checkpoints.task_file import TASK_KEY, TaskHeader
        from mobilevit_sdk.spec import MemoryTask

        spec = small_specs()["vit"]
        header = TaskHeader(
            task=MemoryTask(name="pets", num_classes=3, cells=2),
            base_model=spec.model,
            base_source="a.safetensors",
            base_sha256="0" * 64,
            preprocessing=spec.preprocessing,
        )
        return [safetensors.torch.save(_few(), {TASK_KEY: msgspec.json.encode(header).decode()})]

    def state(self) -> list[bytes]:
        from mobilevit_sdk.recipe import Recipe
        from mobilevit_sdk.training.state import Identity

        identity = Identity(small_specs()["vit"], Recipe(), "0" * 64, None)
        return [_torch({**identity.encode(), "model": _few(), "position": [1, 2]})]

    def metrics(self) -> list[bytes]:
        row = {"epoch": 1, "loss": 1.5, "learning_rate": 1e-3, "images_per_second": 9.0, "seconds": 2.0, "top1": 0.5}
        return [_json(row) + b"\n" + _json({**row, "epoch": 2}) + b"\n"]

    def manifest(self) -> Mapping[str, bytes]:
        first = self._of("onnx")
        return {MANIFEST: (first.path.parent / MANIFEST).read_bytes(), first.path.name: b"weights"}

    def reference(self) -> list[bytes]:
        return [(self._artifacts()[0].path.parent / REFERENCE).read_bytes()]

    @staticmethod
    def phone_file(name: str) -> Callable[[Seeds], list[bytes]]:
        return lambda seeds: [seeds._of(name).path.read_bytes()]

    @staticmethod
    def package(name: str) -> Callable[[Seeds], Mapping[str, bytes]]:
        def files(seeds: Seeds) -> Mapping[str, bytes]:
            return _package(seeds._of(name).path)

        return files

    def recipe(self) -> list[bytes]:
        from mobilevit_sdk.recipe import Distillation, Packing, QuantizationAware, Recipe

        packed = Recipe(packing=Packing(), mix_probability=0.0, distillation=Distillation())
        return [msgspec.json.encode(each) for each in (Recipe(quantization_aware=QuantizationAware()), packed)]

    def quantization(self) -> list[bytes]:
        from mobilevit_sdk.formats.quantization import QuantizationRecipe

        return [msgspec.json.encode(QuantizationRecipe(float_modules=("stages.0.*",)))]

    def space(self) -> list[bytes]:
        return [
            b"learning_rate=log(1e-4, 1e-2)",
            b"epochs=int(1, 8)",
            b"seed=1,2",
            b"crop_scale=[0.1,1],[0.5,1]",
            b"distillation.weight=uniform(0, 1)",
        ]

    def stored_labels(self) -> Mapping[str, bytes]:
        from mobilevit_sdk.recipe import Recipe
        from mobilevit_sdk.training.label_store import (
            AUGMENTATION,
            DataIdentity,
            Manifest,
            Versions,
            encode_keys,
            record_type,
        )

        manifest = Manifest(
            top_k=2,
            epochs=1,
            classes=5,
            labels=None,
            part_images=2,
            image_size=(40, 40),
            pixels=(46, 46),
            seed=0,
            augmentation={name: msgspec.to_builtins(getattr(Recipe(), name)) for name in AUGMENTATION},
            versions=Versions(augmentation=1, torch="2", pillow="1"),
            teacher={"source": "a", "more": [{"deep": [1]}]},
            teacher_sha256="0" * 64,
            data=DataIdentity(source="a", images=3, names_sha256="0" * 64, samples={"0": "0" * 64}),
        )
        place = "logits_top2_epoch0/rank"
        records = np.zeros(2, record_type(2, 5))
        files = {f"{place}{part}-values.bin": records[: 2 - part].tobytes() for part in (0, 1)}
        files |= {f"{place}0-keys.txt": encode_keys(["a/b.png", "c"]), f"{place}1-keys.txt": encode_keys(["d"])}
        return {**files, "manifest.json": msgspec.json.encode(manifest)}

    def parquet(self) -> list[bytes]:
        labels = {"label": [0, 1, 0, 1]}
        info = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
        boxes = [{"bbox": [[1.0, 2.0, 5.0, 6.0]], "category": [1]}, {"bbox": [], "category": []}] * 2
        return [_parquet(labels, info), _parquet({"objects": boxes, "width": [12] * 4, "height": [10] * 4}, {})]

    def tar(self) -> list[bytes]:
        from reader_places import tar_of

        members = {
            "a/1.png": _picture("PNG"),
            "a/1.cls": b"1",
            "a/2.jpg": _picture("JPEG"),
            "a/2.json": b'{"label": 0}',
        }
        return [tar_of(members)]

    def coco(self) -> list[bytes]:
        box = {"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 2, 5, 6], "iscrowd": 0, "area": 30}
        images = [{"id": 1, "file_name": "a.png", "width": 12, "height": 10}]
        return [_json({"images": images, "annotations": [box], "categories": [{"id": 2, "name": "cup"}]})]

    def metadata(self) -> Mapping[str, bytes]:
        line = {"file_name": "a.png", "objects": {"bbox": [[1, 2, 5, 6]], "categories": [1]}}
        return {"a.png": _picture("PNG"), "metadata.jsonl": _json(line) + b"\n"}

    def pictures(self) -> list[bytes]:
        return [_picture(kind) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")] + [
            _picture("PNG", mode) for mode in ("LA", "RGBA", "P", "I;16", "1", "L")
        ]

    def device_report(self) -> list[bytes]:
        timing = {"p50": 4.2, "p90": 9.5, "samples": [4.2, 4.1, 4.4, 9.5]}
        run = {"runtime": "litert", "runtime_version": "2", "accelerator": "gpu", "precision": "fp32"}
        run |= {
            "fully_accelerated": True,
            "cases": [{"name": "noise", "outputs": {"logits": "AAAAAA=="}}],
            "error": None,
        }
        run |= {"latency": {"warm_up": 5, "inference_ms": timing, "with_preprocessing_ms": None}}
        run |= {"peak_memory_bytes": 1, "thermal_state": "nominal"}
        report: dict[str, Any] = {"schema": 1, "app": {"name": "web", "version": "0.1.0"}}
        report["device"] = {"model": "Pixel 8", "system": "Android 15", "processor": "Tensor G3"}
        hashes = {"sha256": "0" * 64, "reference_sha256": "1" * 64}
        report["artifact"] = {"name": "vit-tflite-fp16", "file": "vit.tflite", **hashes}
        report |= {"created": "2026-11-29T12:00:00Z", "runs": [run], "digest": "0" * 64}
        return [json.dumps(report, separators=(",", ":")).encode()]

    def verdicts(self) -> list[bytes]:
        row = {"artifact": "a", "precision": "fp16", "runtime": "litert-cpu", "status": "passed"}
        row |= {"sqnr_db": {"worst": 50.0, "median": 60.0}, "undelegated_ops": {"ADD": 1}}
        return [_json({"verdicts": [row]})]

    def _of(self, name: str) -> Artifact:
        """`name` is a format, or format and backend."""
        format_name, _, backend = name.partition("-")
        folder = "-".join(filter(None, (format_name, backend, "fp16")))
        found = [each for each in self._artifacts() if each.path.parent.name == folder]
        return found[0] if found else self._of_fp32(name)

    def _of_fp32(self, name: str) -> Artifact:
        return next(each for each in self._artifacts() if each.path.parent.name == f"{name}-fp32")

    def _artifacts(self) -> list[Artifact]:
        return _artifacts(self.folder)


@cache
def _artifacts(folder: Path) -> list[Artifact]:
    """Those of the ViT; made where there are none."""
    made = [open_artifact(each.parent) for each in sorted(folder.glob("vit/*/manifest.json"))]
    return made or [each for each in small_artifacts(folder) if each.path.parent.parent.name == "vit"]


@cache
def _package(path: Path) -> Mapping[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@cache
def _checkpoint() -> Checkpoint:
    return random_checkpoint(small_specs()["vit"], seed=0)


def _own_file() -> bytes:
    tensors = {name: tensor.contiguous() for name, tensor in _checkpoint().model.state_dict().items()}
    return safetensors.torch.save(tensors, {"mobilevit_sdk": msgspec.json.encode(_checkpoint().spec).decode()})


def _few() -> dict[str, Tensor]:
    return {"head.weight": torch.arange(6.0).reshape(2, 3), "head.bias": torch.ones(2, dtype=torch.float16)}


def _contents() -> list[Any]:
    training = {
        "model": _few(),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []},
        "epoch": 3,
    }
    return [_few(), {**training, "args": {"lr": 0.1}}]


def _torch(content: Any, **options: Any) -> bytes:
    packed = io.BytesIO()
    torch.save(content, packed, **options)
    return packed.getvalue()


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _picture(kind: str, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 12, 3), np.uint8)
    packed = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)).save(packed, kind)
    return packed.getvalue()


def _parquet(columns: Mapping[str, Any], info: Mapping[str, Any]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    images = [{"bytes": _picture(kind), "path": None} for kind in ("PNG", "JPEG", "PNG", "PNG")]
    table = pyarrow.table({"image": images, **columns}).replace_schema_metadata({"huggingface": json.dumps(info)})
    packed = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, packed, compression="none", row_group_size=2)
    return bytes(packed.getvalue())
