"""Errors of writing, held back until the workers have met where they wait for each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def deferred(target: Any, *names: str) -> Iterator[None]:
    """In this block, these methods of `target` note OSError and RuntimeError, and do not raise.

    The first is raised at the block's end: one worker's full disk would otherwise leave the
    others waiting in the barriers of the library between.
    """
    failures: list[Exception] = []

    def noting(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            try:
                return method(*arguments, **options)
            except (OSError, RuntimeError) as error:
                failures.append(error)
                return None

        return call

    for name in names:
        setattr(target, name, noting(getattr(target, name)))
    try:
        yield
    finally:
        for name in names:
            delattr(target, name)  # the class's own shows again
    if failures:
        raise failures[0]
