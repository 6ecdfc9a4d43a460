"""Words spoken by espeak-ng: builtin:spoken. Needs no torch.

The library comes from PyPI's espeakng-loader or from the system. What it says depends on what it
said before, so everything is said once in a process, in one order.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.domains.files import DataError

NAME = "spoken"
WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("yes", "no", "left", "right", "up", "down", "stop", "go", "open", "close", "start"),
    *("wait", "hello", "thanks", "please", "morning", "evening", "water", "window", "garden"),
)
VOICES = ("en-us", "en", "en-gb-scotland", "en-us+f2", "en+f3", "en-us+m3", "en-gb-x-rp+f4")
"""espeak-ng's voices; those after + are other throats."""
SPEEDS = (130, 175, 220)
"""Words a minute."""
PITCHES = (35, 60)
SYNCHRONOUS = 2
"""espeak-ng's mode that gives samples to a callback and waits for the end."""
UTF8 = 1
CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


def utterances() -> list[tuple[str, str, int, int]]:
    """(word, voice, words a minute, pitch) of all that is spoken, in order."""
    return [(w, v, s, p) for v in VOICES for s in SPEEDS for p in PITCHES for w in WORDS]


def speak(text: str, voice: str, speed: int, pitch: int) -> tuple[NDArray[np.int16], int]:
    """Samples [time] and their rate. DataError where there is no espeak-ng."""
    engine = _engine()
    if engine.library.espeak_SetVoiceByName(voice.encode()):
        raise DataError(f"builtin:{NAME}: espeak-ng has no voice {voice}; install its data")
    engine.library.espeak_SetParameter(1, speed, 0)
    engine.library.espeak_SetParameter(3, pitch, 0)
    engine.chunks.clear()
    if hasattr(engine.library, "espeak_ng_SetRandSeed"):  # breath is noise, else of the clock
        engine.library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    content = text.encode() + b"\0"
    engine.library.espeak_Synth(content, len(content), 0, 0, 0, UTF8, None, None)
    engine.library.espeak_Synchronize()
    return np.concatenate([np.zeros(0, np.int16), *engine.chunks]), engine.rate


@lru_cache(maxsize=1)
def spoken() -> tuple[tuple[str, str, NDArray[np.int16], int], ...]:
    """(word, speaker, samples, rate) of the built-in data, the same in every process."""
    return tuple((word, v, *speak(word, v, speed, pitch)) for word, v, speed, pitch in utterances())


class _Engine:
    def __init__(self, library: Any, data: str | None) -> None:
        self.library = library
        self.chunks: list[NDArray[np.int16]] = []
        self.rate = int(library.espeak_Initialize(SYNCHRONOUS, 0, data and data.encode(), 0))
        if self.rate <= 0:
            raise DataError(f"builtin:{NAME}: espeak-ng does not start; install its data")
        self._callback = CALLBACK(self._take)  # ctypes would free it otherwise
        library.espeak_SetSynthCallback(self._callback)

    def _take(self, samples: Any, count: int, _: Any) -> int:
        if samples and count > 0:
            self.chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0


@lru_cache(maxsize=1)
def _engine() -> _Engine:
    library, data = _found()
    try:
        return _Engine(ctypes.CDLL(library), data)
    except OSError as error:
        raise DataError(f"builtin:{NAME}: {library} cannot be loaded: {error}") from error


def _found() -> tuple[str, str | None]:
    """The library, and the folder of its data where the library does not know."""
    package = importlib.util.find_spec("espeakng_loader")
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parent
        libraries = sorted(folder.glob("*espeak-ng*.[sd][oyl]*"))
        if libraries:
            return str(libraries[0]), str(folder)
    system = ctypes.util.find_library("espeak-ng")
    if system is None:
        raise DataError(
            f"builtin:{NAME}: there is no espeak-ng; pip install espeakng-loader, or "
            "apt-get install espeak-ng"
        )
    return system, None
