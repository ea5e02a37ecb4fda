"""Artifacts on disk: the phone file, its manifest and the reference vectors that prove it."""
