"""Pictures: flows as charts, maps and labels over slices, what augmentation makes of an image."""
