"""How well label maps agree with references, and what that says about models."""
