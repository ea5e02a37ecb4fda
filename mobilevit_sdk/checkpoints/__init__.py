"""Checkpoints one way: read the keys, identify the network, build it on the meta device, fill it."""
