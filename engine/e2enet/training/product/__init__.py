"""What a run makes: the bundle, what its model.json says, its card."""
