"""What ``scripts/gpu-check`` is made of: what it carries, how it builds, what it measures, what it prints."""
