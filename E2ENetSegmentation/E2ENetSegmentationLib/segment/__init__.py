"""The tab Segment: from a volume to a segmentation beside it."""
