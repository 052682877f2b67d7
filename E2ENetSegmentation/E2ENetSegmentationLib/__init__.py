"""What is under the E2ENetSegmentation module: one file a concern, no torch, Qt only in `host`."""
