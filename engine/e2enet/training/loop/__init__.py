"""The loop: loss, schedules, steps, validation, checkpoints and curves."""
