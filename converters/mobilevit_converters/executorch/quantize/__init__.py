"""Integer precisions of ExecuTorch, through PT2E with a quantizer that follows a recipe."""
