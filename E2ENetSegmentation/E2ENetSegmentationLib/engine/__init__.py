"""The engine from outside: where it lies, what it needs, its process and what that says."""
