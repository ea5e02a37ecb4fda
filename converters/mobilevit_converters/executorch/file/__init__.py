"""The .pte as a file: its program, its delegates, and CoreML packages in them."""
