"""One file per family: config, blocks, model, variants. Each is imported by `mobilevit_sdk.models.registry`."""
