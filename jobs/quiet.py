"""Silence what libraries say of themselves, so that a run's output is about the run."""

from __future__ import annotations

import logging
import os
import warnings


def quiet() -> None:
    """Drop the notices of torch, DeepSpeed and transformers that no user can act on."""
    # torch 2.13 renames two collectives that DeepSpeed 0.19 still calls by their old names.
    warnings.filterwarnings("ignore", message="`torch.distributed", category=FutureWarning)
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # transformers shows a progress bar for every network it loads, however small.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
