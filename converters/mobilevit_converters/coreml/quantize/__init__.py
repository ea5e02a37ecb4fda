"""Integer precisions of Core ML, as edits of the MIL program."""
