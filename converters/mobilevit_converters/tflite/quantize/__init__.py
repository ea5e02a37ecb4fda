"""Integer precisions of TFLite: ranges, choice of operators, ai-edge-quantizer."""
