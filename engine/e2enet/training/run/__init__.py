"""A training as a folder: what was chosen, its lock, its plan, its log."""
