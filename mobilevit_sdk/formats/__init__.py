"""The plug-in contract of a phone format: converter, runtime, taps, and the vocabulary of quantization."""
