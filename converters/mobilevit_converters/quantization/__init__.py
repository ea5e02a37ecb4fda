"""What the integer precisions of several formats share: integers, palettes."""
