"""Long-context evaluation of GGUF files: tasks, the grid that they run over, and the results.

=================  ================================================================================
``tasks``          one file for each task, and the one table of them
``task_kind``      what a kind of task is: how its cells are planned, measured and shown
``answer_kind``    the kind that asks questions, of tasks as ``task`` has them; ``answers``: one cell
``position_kind``  the kind that reads a text, on the means of ``positions``
``grid``           an order, checked, as cells; ``runner`` gives each its result
``results``        what a result says; ``notes``: its remarks; ``result_line``: it as JSON, and back
``store``          the file of results
``intervals``      95% intervals
``file_facts``     what there is to say about a file; ``machine``: about machine and build
=================  ================================================================================
"""
