"""A training as a folder: what was chosen, its lock, its plan, and the bundle it ends in."""
