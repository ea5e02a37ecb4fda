"""Images from folders, Parquet files and COCO JSON, and the preprocessing that a checkpoint asks for."""

from mobilevit_sdk.data.coco import coco_file
from mobilevit_sdk.data.dataset import ClassOrder, ImageDataset
from mobilevit_sdk.data.folder import open_pictures
from mobilevit_sdk.data.objects import Objects
from mobilevit_sdk.data.preprocessing import crop_image, to_model_input
from mobilevit_sdk.data.source import open_dataset
from mobilevit_sdk.data.split import split_dataset

__all__ = [
    "ClassOrder",
    "ImageDataset",
    "Objects",
    "coco_file",
    "crop_image",
    "open_dataset",
    "open_pictures",
    "split_dataset",
    "to_model_input",
]
