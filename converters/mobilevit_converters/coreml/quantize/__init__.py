"""Integer precisions of CoreML, as edits of the MIL program."""
