"""What a network is for: what training, pruning, quantization and evaluation need to know of its answers."""

from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.tasks.classification import Classification
from mobilevit_sdk.tasks.detection import Detection
from mobilevit_sdk.tasks.task import Images, Predict, Task


def task_of(spec: ModelSpec) -> Task:
    """The task of a network. Without torch: what a task computes with it, it imports when asked."""
    return Detection(spec) if spec.num_queries else Classification(spec)


__all__ = ["Classification", "Detection", "Images", "Predict", "Task", "task_of"]
