"""From two dimensions to three: weight transfer and dimensional transfer."""
