"""The training loop: one training run, a command with several, a study."""
