"""The .aimodel asset: a folder with metadata, and a program that native code reads."""
