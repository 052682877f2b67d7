"""Where in an image the network looks: a person's region, or boxes found by registration."""
