"""Passes over the FlatBuffer that the converter wrote."""
