"""``ggufrope tune``: learn a table of pair factors for a model, prove it on other texts, write it."""
