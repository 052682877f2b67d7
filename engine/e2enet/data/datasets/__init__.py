"""Datasets as they lie on disk, and which of their cases are held out."""
