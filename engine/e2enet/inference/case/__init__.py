"""A case on its way in and out: files, the network's grid and back, results and manifest."""
