"""How well label maps agree with references."""
