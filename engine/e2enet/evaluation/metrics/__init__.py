"""One structure in one case: how far prediction and reference agree."""
