"""Parts of ``scripts/check-sanitizers``."""
