"""The sparse kernels with their gradients, for training on a CPU."""
