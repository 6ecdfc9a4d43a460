"""No worker waits for a compiler that it does not use."""

import sys
from typing import Any

import pytest
from deepspeed.runtime import compiler

from jobs.muon import MODULE, load_uncompiled


def test_muon_is_loaded_without_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrap(*_: Any, **__: Any) -> None:
        raise AssertionError("this is what takes a second in every worker")

    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    monkeypatch.setattr(compiler, "compile", wrap)
    load_uncompiled()
    assert MODULE in sys.modules
    assert compiler.compile is wrap  # whoever asks for it later gets it
