"""The Python that runs the engine, and the packages that were installed for it."""
