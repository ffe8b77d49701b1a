"""Everything ggufrope raises on purpose.

::

    GgufropeError                    exit code 2
     ├─ UsageError                   an option or argument that makes no sense
     │   └─ UnknownMethodError       a method name nobody registered
     ├─ ParameterError               a method's parameter is out of its range
     ├─ InputError                   a file or directory that cannot be used
     │   ├─ GgufError                not a GGUF, truncated, inconsistent
     │   └─ CheckpointError          a Hugging Face directory that cannot be read
     ├─ OutputError                  the result cannot be written; nothing was lost
     ├─ UnsupportedModelError        the model cannot carry what was asked for
     ├─ NotHonouredError             no runtime (or not this one) would honour the request
     └─ RuntimeLibraryError          the patched llama.cpp is missing, stale or not patched
         └─ BuildError               building it failed
    CheckFailed                      exit code 1: everything ran, and a check did not hold

A message is one line. It names the file and the key, what was found, and what to do about it. Only ``cli/`` turns
these into exit codes; the library never prints and never exits.
"""

from __future__ import annotations

__all__ = [
    "BuildError",
    "CheckFailed",
    "CheckpointError",
    "GgufError",
    "GgufropeError",
    "InputError",
    "NotHonouredError",
    "OutputError",
    "ParameterError",
    "RuntimeLibraryError",
    "UnknownMethodError",
    "UnsupportedModelError",
    "UsageError",
]


class GgufropeError(Exception):
    """Base of every error that is about the user's input or machine, not about a bug in ggufrope."""

    def about(self, subject: object) -> GgufropeError:
        """The same error with ``subject``, a file, in front, unless its message names that or an option already.

        For what was raised where nobody knew the file: a method's parameter, an architecture.
        """
        message = str(self)
        named = str(subject) in message or message.startswith("--")
        return self if named else type(self)(f"{subject}: {message}")


class UsageError(GgufropeError):
    """An option or argument that makes no sense, alone or together with another one."""


class UnknownMethodError(UsageError):
    """A method name that is not in ``ggufrope.methods.METHODS``."""


class ParameterError(GgufropeError):
    """A method's parameter has the wrong type, shape or range."""


class InputError(GgufropeError):
    """A file or directory that cannot be used as it is."""


class GgufError(InputError):
    """A file that is not a GGUF, is truncated, or contradicts itself."""


class CheckpointError(InputError):
    """A Hugging Face directory that is incomplete or whose configuration cannot be honoured."""


class OutputError(GgufropeError):
    """The output cannot be written (permissions, space, same file as the input). The source is untouched."""


class UnsupportedModelError(GgufropeError):
    """The model's architecture cannot carry the requested method (no RoPE, one shared K head, ...)."""


class NotHonouredError(GgufropeError):
    """A file asks for something that the runtime at hand would not do."""


class RuntimeLibraryError(GgufropeError):
    """The patched llama.cpp is not built, does not match the patches, or is not patched at all."""


class BuildError(RuntimeLibraryError):
    """Fetching, patching or compiling llama.cpp failed."""


class CheckFailed(Exception):
    """A check ran to its end and did not hold. Not a ``GgufropeError``: the input was fine, the result was not."""
