"""The tab Explain: where, and at which scale, a model took its evidence."""
