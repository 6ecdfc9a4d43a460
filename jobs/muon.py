"""DeepSpeed's optimizer Muon, loaded without torch's compiler.

DeepSpeed asks of each optimizer at each start whether it is Muon, whose module wraps a function
for the compiler as it is read: a second or more in every worker. No spec can ask for Muon.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from deepspeed.runtime import compiler

MODULE = "deepspeed.runtime.zero.muon.original_muon"


def load_uncompiled() -> None:
    """Import it as it is; once in a process, and nothing after that."""
    wrap = compiler.compile
    compiler.compile = _as_it_is
    try:
        importlib.import_module(MODULE)
    finally:
        compiler.compile = wrap


def _as_it_is(*_: Any, **__: Any) -> Callable[[Any], Any]:
    return lambda function: function
