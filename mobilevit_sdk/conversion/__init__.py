"""From a checkpoint to verified artifacts: plan, one job a child process, pipeline."""
