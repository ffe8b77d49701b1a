"""What ``scripts/bench/bench-runtime`` is made of: random models, processes that are timed, and what the times say."""
