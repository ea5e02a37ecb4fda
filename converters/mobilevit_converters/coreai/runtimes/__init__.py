"""Runtimes for .aimodel assets: Apple's own."""
