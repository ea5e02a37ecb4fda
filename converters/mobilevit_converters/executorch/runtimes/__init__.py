"""Runtimes for .pte files: ExecuTorch on this machine, its ARM64 build under emulation, the Core ML program inside."""
