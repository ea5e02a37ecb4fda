"""What a checkpoint and an artifact both carry: which model, with which config, fed how, with which labels.

`parts` holds the parts of a description, `model` the whole.
"""

from mobilevit_sdk.spec.model import MemoryTask, ModelSpec, Origin, TaskOrigin, describe_preprocessing
from mobilevit_sdk.spec.parts import (
    BOXES,
    FEATURES,
    HEADER,
    LOGITS,
    MAX_SIZES,
    RESERVED_NAMES,
    TASK_NAME,
    Features,
    Kind,
    ModelConfig,
    ModelInfo,
    Output,
    Preprocessing,
    Strict,
    Windows,
    check_image_sizes,
    in_pixels,
    nearest_size,
)

__all__ = [
    "BOXES",
    "FEATURES",
    "HEADER",
    "LOGITS",
    "MAX_SIZES",
    "RESERVED_NAMES",
    "TASK_NAME",
    "Features",
    "Kind",
    "MemoryTask",
    "ModelConfig",
    "ModelInfo",
    "ModelSpec",
    "Origin",
    "Output",
    "Preprocessing",
    "Strict",
    "TaskOrigin",
    "Windows",
    "check_image_sizes",
    "describe_preprocessing",
    "in_pixels",
    "nearest_size",
]
