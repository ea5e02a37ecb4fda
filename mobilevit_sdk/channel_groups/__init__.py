"""Which channels live and die together: what pruning may take and equalization may scale, one file a family."""
