"""The blind engine: CMA-ES on the runtime, for spaces of few numbers and for whatever PyTorch cannot run."""
