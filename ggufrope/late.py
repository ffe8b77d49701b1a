"""numpy, loaded when it is first used: ``from ggufrope.late import np`` instead of ``import numpy as np``.

Loading it takes longer than reading the header of a model (40 ms here). Whoever only prints options or edits a header
does without, and an edit in place has the kernel work meanwhile (``gguf.ahead``). In annotations it is numpy itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["np"]

if TYPE_CHECKING:
    import numpy as np
else:

    class _Numpy:
        """Stands for numpy; everything in it that was asked for once is kept here."""

        def __getattr__(self, name: str) -> Any:
            import numpy

            value = getattr(numpy, name)
            setattr(self, name, value)
            return value

    np = _Numpy()
