"""Everything that knows windows: what the tabs share, and Slicer itself behind `host`."""
