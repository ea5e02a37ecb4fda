"""What runs a .pte: ExecuTorch here, its ARM64 build under emulation, the CoreML program within."""
