"""The .tflite as a file: FlatBuffer, operators, delegation, associated files."""
