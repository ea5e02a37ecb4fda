"""What every plot has in common."""
