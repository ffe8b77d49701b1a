"""The gradient engine: a GGUF's own weights in PyTorch, one layer at a time, differentiable in the frequency table.

``streamed_model.py`` reads texts, ``runtime_agreement.py`` compares that with the patched runtime before a step is
taken, ``gradient_searcher.py`` takes steps. All of it needs the extra ``[torch]``; nothing here is imported before the
engine is asked for.
"""
