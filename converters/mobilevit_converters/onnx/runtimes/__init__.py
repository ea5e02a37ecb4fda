"""What runs a .onnx: onnxruntime on this machine."""
