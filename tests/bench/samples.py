"""A small model of each domain, on data that needs no download."""

from __future__ import annotations

from typing import Any

LANGUAGE: dict[str, Any] = {
    "domain": "text",
    "task": "generation",
    "data": {"source": "builtin:python-docs", "tokenizer": {"type": "bpe", "size": 512}},
    "network": {"type": "gpt", "layers": 2, "heads": 4, "width": 64, "context": 64},
}
SAMPLES: dict[str, dict[str, Any]] = {
    "language": LANGUAGE,
    "text": {
        "domain": "text",
        "task": "classification",
        "data": {"source": "builtin:docstrings", "tokenizer": {"type": "bpe", "size": 512}},
        "network": {"type": "bert", "layers": 2, "heads": 4, "width": 64, "context": 64},
    },
    "vision": {
        "domain": "vision",
        "task": "classification",
        "data": {"source": "builtin:digits"},
        "network": {"type": "resnet"},
    },
}
