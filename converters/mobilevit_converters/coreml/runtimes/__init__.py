"""Runtimes for .mlpackage files: Core ML itself on macOS, the reference interpreter anywhere."""
