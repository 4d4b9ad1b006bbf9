"""Decorators that compile loops with numba.

Each file of compiled loops defines its own options and constants. numba renews a cached loop only when the loop's own
file changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

Decorator = Callable[[Callable[..., Any]], Any]

_njit: Any = njit  # its stubs know fewer options than it has


def inner(**options: Any) -> Decorator:
    """Decorator for functions that only compiled code calls. This halves their compile time."""
    decorator: Decorator = _njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)
    return decorator


def kept(**options: Any) -> Decorator:
    """Decorator that compiles a function at its first call and caches the result on disk if the folder is writable.

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
