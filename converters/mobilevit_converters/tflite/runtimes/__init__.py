"""What runs a .tflite: LiteRT on the CPU and the GPU, tflite-runtime, the ARM64 build under emulation."""
