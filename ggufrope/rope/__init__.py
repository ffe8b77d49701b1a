"""What rotary position embedding is made of: facts of a model, the table of divisors, what stock llama.cpp computes."""
