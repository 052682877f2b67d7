"""Execution plans: what runs a trained network."""
