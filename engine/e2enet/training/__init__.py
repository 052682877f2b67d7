"""Training: loss, schedules, checkpoints, curves, fine-tuning and the trainer."""
