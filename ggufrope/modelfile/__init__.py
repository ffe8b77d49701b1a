"""A model file, opened: its facts, what it was before a conversion, what its keys say, and who it is."""
