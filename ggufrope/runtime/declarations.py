"""Argument and result types of every C function that is called here: ours in libllama, and the few of ggml's.

Sources: ``patches/src/ggufrope.h``; ``ggml.h`` and ``ggml-backend.h`` of the pinned llama.cpp. A test compares them.
Undeclared, pointers would be passed as 32-bit integers. What llama-cpp-python declares itself is called through it.
"""

from __future__ import annotations

import ctypes
from typing import Any

__all__ = ["FUNCTIONS", "Check", "CheckCallback", "InitParams", "declared"]

_BOOL, _INT, _SIZE, _TEXT, _POINTER = ctypes.c_bool, ctypes.c_int, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p
_I32, _I64, _U32, _F32 = ctypes.c_int32, ctypes.c_int64, ctypes.c_uint32, ctypes.c_float
_FLOATS, _SIZES, _INTS = ctypes.POINTER(_F32), ctypes.POINTER(_SIZE), ctypes.POINTER(_INT)


class InitParams(ctypes.Structure):
    """``struct ggml_init_params``."""

    _fields_ = (("mem_size", _SIZE), ("mem_buffer", _POINTER), ("no_alloc", _BOOL))


class Check(ctypes.Structure):
    """``struct ggufrope_check``: one case of the self-test."""

    _fields_ = (
        *((name, _TEXT) for name in ("op", "mode", "type", "variant", "verdict", "problem")),
        *((name, ctypes.c_double) for name in ("error", "limit")),
        ("n_fused", _I32),
    )


#: ``ggufrope_check_callback``.
CheckCallback = ctypes.CFUNCTYPE(None, ctypes.POINTER(Check), _POINTER)

_ROPE = (_INT, _INT, _F32, _F32, _F32, _F32, _F32, _F32)  # mode, original context, base, scale, YaRN's four

#: By name: the result, then the arguments.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "ggufrope_api_version": (_U32,),
    "ggufrope_last_error": (_TEXT,),
    "ggufrope_method": (_TEXT, _POINTER),
    "ggufrope_n_layers": (_U32, _POINTER),
    "ggufrope_n_head_factors": (_SIZE, _POINTER),
    "ggufrope_head_factors_offset": (_SIZE, _POINTER, _U32),
    "ggufrope_get_head_order": (_TEXT, _POINTER),
    "ggufrope_set_head_order": (_BOOL, _POINTER, _TEXT),
    "ggufrope_get_head_factors": (_BOOL, _POINTER, _FLOATS, _SIZE),
    "ggufrope_set_head_factors": (_BOOL, _POINTER, _FLOATS, _SIZE),
    "ggufrope_fallback": (_TEXT, _POINTER),
    "ggufrope_set_no_fallback": (None, _BOOL),
    "ggufrope_n_pair_factors": (_SIZE, _POINTER),
    "ggufrope_pair_factors_offset": (_SIZE, _POINTER, _U32),
    "ggufrope_get_pair_factors": (_BOOL, _POINTER, _FLOATS, _SIZE),
    "ggufrope_set_pair_factors": (_BOOL, _POINTER, _FLOATS, _SIZE),
    "ggufrope_n_length_rows": (_SIZE, _POINTER),
    "ggufrope_length_point": (_U32, _POINTER, _SIZE),
    "ggufrope_get_length_row": (_U32, _POINTER),
    "ggufrope_get_pending_length_row": (_I32, _POINTER),
    "ggufrope_set_length_row": (_BOOL, _POINTER, _I32),
    "ggufrope_set_length_hint": (None, _POINTER, _U32),
    "ggufrope_capture_scores": (_BOOL, _POINTER, _BOOL),
    "ggufrope_n_scores": (_SIZE, _POINTER),
    "ggufrope_scores_offset": (_SIZE, _POINTER, _U32),
    "ggufrope_get_scores": (_BOOL, _POINTER, _FLOATS, _SIZE),
    "ggufrope_check_device": (_I32, _POINTER, CheckCallback, _POINTER),
    "ggml_backend_dev_count": (_SIZE,),
    "ggml_backend_dev_get": (_POINTER, _SIZE),
    "ggml_backend_dev_name": (_TEXT, _POINTER),
    "ggml_backend_dev_description": (_TEXT, _POINTER),
    "ggml_backend_dev_type": (_INT, _POINTER),
    "ggml_backend_dev_memory": (None, _POINTER, _SIZES, _SIZES),
    "ggml_backend_dev_backend_reg": (_POINTER, _POINTER),
    "ggml_backend_reg_name": (_TEXT, _POINTER),
    "ggml_backend_dev_supports_op": (_BOOL, _POINTER, _POINTER),
    "ggml_init": (_POINTER, InitParams),
    "ggml_new_tensor_1d": (_POINTER, _POINTER, _INT, _I64),
    "ggml_new_tensor_2d": (_POINTER, _POINTER, _INT, _I64, _I64),
    "ggml_new_tensor_3d": (_POINTER, _POINTER, _INT, _I64, _I64, _I64),
    "ggml_rope_ext": (_POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT, *_ROPE),
    "ggml_rope_multi": (_POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT, _INTS, *_ROPE),
}


def declared(library: ctypes.CDLL, name: str) -> Any:
    """The function ``name`` of a loaded library, with its types.

    Raises:
        AttributeError: the library has none of that name.
    """
    function = getattr(library, name)
    function.restype, *arguments = FUNCTIONS[name]
    function.argtypes = arguments
    return function
