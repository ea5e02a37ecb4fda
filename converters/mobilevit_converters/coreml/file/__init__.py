"""The .mlpackage as a file: what is in it, read without Core ML."""
