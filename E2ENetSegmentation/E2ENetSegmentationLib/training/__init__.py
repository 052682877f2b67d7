"""The tab Fine-tune: from pairs in the scene, or a dataset, to a model."""
