"""From a dataset's fingerprint to the plan of a model, after nnU-Net's rules."""
