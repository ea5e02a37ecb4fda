"""Rewrites of an exported graph that change no value."""
