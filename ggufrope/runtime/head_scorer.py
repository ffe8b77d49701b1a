"""Scores of heads, measured by our patches inside the graph (``ggufrope_capture_scores``), called through ctypes."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ggufrope.errors import RuntimeLibraryError
from ggufrope.runtime.api import Api, as_floats
from ggufrope.runtime.declarations import declared

if TYPE_CHECKING:
    from llama_cpp import Llama

__all__ = ["Scorer"]


class Scorer:
    """Scores the heads of one loaded model, from construction until ``close``. The model forgets what it has read."""

    def __init__(self, model: Llama, library: ctypes.CDLL) -> None:
        """Switch scoring on.

        Args:
            model: as ``ggufrope.load`` returns it.
            library: the libllama that it runs on.

        Raises:
            RuntimeLibraryError: the library is not patched, or refused; its own message.
        """
        self._api, self._model = Api(library), model
        try:
            self._switch = declared(library, "ggufrope_capture_scores")
            self._count, self._get = declared(library, "ggufrope_n_scores"), declared(library, "ggufrope_get_scores")
        except AttributeError:
            raise RuntimeLibraryError(f"{library._name} is an older build; run `ggufrope runtime build`") from None
        self._capture(True)

    def close(self) -> None:
        """Switch scoring off."""
        self._capture(False)

    def scores(self) -> npt.NDArray[np.float32]:
        """``[sum of n_head over the layers]``, row-major by layer, for the last token read; NaN: not scored.

        A score is the share of keys with more than three times the mean attention, Q and K as before their rotation.

        Raises:
            RuntimeLibraryError: nothing was read yet.
        """
        values = np.empty(int(self._count(self._model._model.model)), np.float32)
        if not self._get(self._context, as_floats(values), values.size):
            raise RuntimeLibraryError(
                f"cannot read the scores of heads: {self._api.last_error()}; "
                "`ggufrope runtime build` makes a library that can"
            )
        return values

    @property
    def _context(self) -> Any:
        return self._model._ctx.ctx

    def _capture(self, on: bool) -> None:
        self._model.reset()
        self._model._ctx.kv_cache_clear()
        if not self._switch(self._context, on):
            raise RuntimeLibraryError(
                f"{self._model.model_path}: cannot score heads: {self._api.last_error()}; "
                "use --order sequential, or another model"
            )
