"""The demo model's language, and how well it is repeated: what its training, the demo, tests and studies draw from."""
