"""Integer precisions of TFLite: ranges, choice of operators, litert-quantizer."""
