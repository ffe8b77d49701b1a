"""Words and numbers for people: what a name may have been meant for, sizes, counts, values on one line."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["binary_size", "counted", "did_you_mean", "duration", "grouped", "shorten", "size"]


def did_you_mean(name: str, known: Iterable[str], otherwise: str, *, cutoff: float = 0.5) -> str:
    """What to say about a name that is not known: ``did you mean this or that?``.

    Args:
        name: what was given, in any case.
        known: the names that there are.
        otherwise: what to say when none of them is near.
        cutoff: how alike names must be, 0 to 1: higher for short names, which are alike by chance.
    """
    import difflib  # late: it is needed only on the way to an error

    names, wanted = {one.lower(): one for one in known}, name.lower()
    near = [wanted] if wanted in names else difflib.get_close_matches(wanted, names, n=2, cutoff=cutoff)
    return f"did you mean {' or '.join(names[one] for one in near)}?" if near else otherwise


def size(n: float) -> str:
    """Bytes in the decimal units that file managers show: ``980 bytes``, ``2.51 GB``."""
    value = float(n)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def binary_size(n: int) -> str:
    """Bytes in the binary units that memory is sold in: ``48 B``, ``1.5 GiB``."""
    value, unit = float(n), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):  # noqa: B007  # read below
        if value < 1024:
            break
        value /= 1024
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.4g} {unit}"


def grouped(n: int) -> str:
    """``1 234 567`` with narrow spaces that do not break."""
    return f"{n:,}".replace(",", "\u202f")


def counted(n: int, one: str, many: str = "") -> str:
    """``1 file``, ``3 files``."""
    return f"{grouped(n)} {one if n == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """``90 s``, ``5 min``, ``2.5 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def shorten(value: object) -> str:
    """A value of any size as at most 60 characters on one line, for error messages."""
    text = " ".join(repr(value[:80] if isinstance(value, (list, tuple, str)) else value).split())
    return text if len(text) <= 60 else text[:57] + "..."
