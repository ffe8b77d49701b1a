"""What ``scripts/studies/architectures`` is made of: upstream's toy models, what they showed, and the page on it."""
