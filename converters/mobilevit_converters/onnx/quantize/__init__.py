"""Integer precisions of ONNX: QuantizeLinear and DequantizeLinear around what computes in 8 bits."""
