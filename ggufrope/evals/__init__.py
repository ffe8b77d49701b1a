"""Long-context evaluation of GGUF files: tasks, the engine that answers them, and the grid that they run over.

=================  ================================================================================
``base``           what tasks, engine and runner agree on; ``requests``: what the engine is asked
``tasks``          one file for each task that is answered, and the table of them
``by_position``    the tasks that read a text, on ``positions``
``engine``         the patched llama.cpp, each token evaluated as rarely as possible
``chat``           the model's chat template
``grid``           an order, checked, as cells; ``run`` gives each its result
``answers``        one cell of questions
``results``        a line of results; ``store``: the file of them
``intervals``      95% intervals
``subject``        what there is to say about a file; ``machine``: about machine and build
=================  ================================================================================

The bindings are loaded when an engine is opened, not before.
"""
