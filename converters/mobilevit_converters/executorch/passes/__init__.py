"""Passes over the graph that ExecuTorch lowers."""
