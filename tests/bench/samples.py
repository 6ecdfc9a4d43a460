"""A small model of each domain and task, on data that needs no download."""

from __future__ import annotations

import random
from pathlib import Path
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
    "masked": {
        "domain": "text",
        "task": "masked-lm",
        "data": {"source": "builtin:docstrings", "tokenizer": {"type": "bpe", "size": 512}},
        "network": {"type": "bert", "layers": 2, "heads": 4, "width": 64, "context": 64},
    },
    "vision": {
        "domain": "vision",
        "task": "classification",
        "data": {"source": "builtin:digits"},
        "network": {"type": "resnet"},
    },
    "recognition": {
        "domain": "speech",
        "task": "recognition",
        "data": {"source": "builtin:spoken"},
        "network": {"type": "ctc", "layers": 2, "width": 64, "mels": 40, "subsampling": 2},
    },
    "synthesis": {
        "domain": "speech",
        "task": "synthesis",
        "data": {"source": "builtin:spoken"},
        "network": {
            "type": "tacotron2",
            "width": 64,
            "decoder": 64,
            "prenet": 32,
            "attention": 32,
            "reduction": 4,
            "mels": 40,
        },
    },
    "next-item": {
        "domain": "recommendation",
        "task": "next-item",
        "data": {"source": "builtin:imports"},
        "network": {"type": "sasrec", "width": 64},
    },
    "rating": {
        "domain": "recommendation",
        "task": "rating",
        "data": {"source": "ratings.csv"},
        "network": {"type": "matrix-factorisation", "width": 48, "dropout": 0.1},
    },
}
RATINGS = "ratings.csv"
USERS, ITEMS, RATINGS_EACH = 240, 300, 40


def write_ratings(folder: Path) -> None:
    """Write made-up ratings: people of two tastes, films of two kinds, some better than others."""
    chance = random.Random(0)
    worth = [chance.gauss(3.4, 0.6) for _ in range(ITEMS)]
    lines = ["user,item,rating,time"]
    for user in range(USERS):
        for place, item in enumerate(chance.sample(range(ITEMS), RATINGS_EACH)):
            liked = 0.7 if user % 2 == item % 2 else -0.7
            given = min(5.0, max(0.5, round(2 * (worth[item] + liked + chance.gauss(0, 0.5))) / 2))
            lines.append(f"{user},{item},{given:g},{place}")
    (folder / RATINGS).write_text("\n".join(lines) + "\n")
