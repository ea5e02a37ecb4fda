"""What becomes of operators of ATen before coreai-torch writes them."""
