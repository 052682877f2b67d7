"""What a person rarely needs: the engine's Python and its packages."""
