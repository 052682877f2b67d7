"""Images, datasets, plans and preprocessing: everything before the network sees a voxel."""
