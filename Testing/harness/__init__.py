"""A thin stand-in of Slicer for the panel: fakes of its own .ui files over the real MRML core."""
