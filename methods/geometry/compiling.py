"""How numba compiles the loops of methods.

A file of compiled loops states its own options and constants: numba's cache on disk is renewed when the file changes
that the loop is in, not another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

Decorator = Callable[[Callable[..., Any]], Any]

_njit: Any = njit  # its stubs know fewer options than it has


def inner(**options: Any) -> Decorator:
    """A decorator of functions that only compiled ones call, compiled with them: less code, in half the time."""
    decorator: Decorator = _njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)
    return decorator


def kept(**options: Any) -> Decorator:
    """A decorator that compiles at the first call, and keeps the result on disk where that can be written.

    Example:
        >>> @kept(error_model="numpy")
        ... def half(x):
        ...     return x / 2
        >>> half(3.0)
        1.5
    """

    def compiled(function: Callable[..., Any]) -> Any:
        try:
            return _njit(cache=True, **options)(function)
        except RuntimeError:  # neither the function's folder nor the user's cache can be written
            return _njit(**options)(function)

    return compiled
