"""Long-context evaluation of GGUF files: tasks, the grid that they run over, and the results.

=================  ================================================================================
``task``           what tasks and runner agree on: examples in, answers out
``tasks``          one file for each task that is answered, and the table of them
``by_position``    the tasks that read a text, on ``positions``
``grid``           an order, checked, as cells; ``runner`` gives each its result
``answers``        one cell of questions
``results``        a line of results; ``store``: the file of them
``intervals``      95% intervals
``file_facts``     what there is to say about a file; ``machine``: about machine and build
=================  ================================================================================
"""
