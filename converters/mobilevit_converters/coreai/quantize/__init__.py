"""Integer precisions of Core AI, as edits of the exported graph before it is converted."""
