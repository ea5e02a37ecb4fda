"""The .onnx file: its protobuf, read as an untrusted file, and what its metadata says."""
