"""One file a family: config, blocks, model, variants. `models.registry` imports each of them."""
