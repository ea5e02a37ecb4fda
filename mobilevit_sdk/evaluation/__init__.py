"""Accuracy on labeled images, of checkpoints and of phone files."""
