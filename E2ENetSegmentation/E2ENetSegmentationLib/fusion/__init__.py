"""The tab Fusion: where, and at which scale, a model took its evidence."""
