"""Long-context evaluation of GGUF files: tasks, the engine that answers them, and the grid that they run over."""
