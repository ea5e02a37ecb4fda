"""The .pte as a file: its program, its delegates, and Core ML packages in them."""
