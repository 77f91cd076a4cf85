"""What a training leaves: the run folder, checkpoints, the MLflow store."""
