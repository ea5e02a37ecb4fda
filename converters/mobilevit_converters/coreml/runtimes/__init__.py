"""What runs a .mlpackage: CoreML itself on macOS, the reference interpreter anywhere."""
