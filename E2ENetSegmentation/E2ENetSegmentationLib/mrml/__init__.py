"""The scene: volumes, segmentations and regions, and where they lie in the hierarchy."""
