"""Many machines: cases on a Ray cluster."""
