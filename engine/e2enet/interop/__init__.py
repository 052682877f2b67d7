"""Other people's formats: each in a file of its own, imported where it is used."""
