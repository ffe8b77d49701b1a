"""Real models from the package index, measured: what ``scripts/real-models`` does, step by step.

``pinned_models`` says which, ``downloads`` fetches them, ``declared_grid`` says what is measured, ``derived_files``
writes the files that this needs, ``grid_pieces`` runs it, ``model_pages`` writes it down.
"""
