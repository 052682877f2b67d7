"""Trained models: found, read, imported, shown."""
