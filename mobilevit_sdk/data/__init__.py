"""Images from folders and Parquet files, and the preprocessing that a checkpoint asks for."""

from mobilevit_sdk.data.dataset import ImageDataset, as_labeled, open_dataset
from mobilevit_sdk.data.preprocessing import crop_image, to_model_input

__all__ = ["ImageDataset", "as_labeled", "crop_image", "open_dataset", "to_model_input"]
