"""Training patches: where they are cut, and how they are changed."""
