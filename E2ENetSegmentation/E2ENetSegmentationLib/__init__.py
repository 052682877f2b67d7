"""What is under the E2ENetSegmentation module: a room a concern, no torch, Qt in `ui.host`."""
