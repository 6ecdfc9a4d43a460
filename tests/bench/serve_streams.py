"""Streams together against one after another: tokens per second, and the same tokens."""

from __future__ import annotations

import json
import statistics
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.bench.result import Result, Say
from tests.bench.served import Bare, bundle_of
from tests.services import LANGUAGE, Served, serving

CLAIM = "streams are written together"
HOW = (
    "8 streams of 64 tokens at once through POST /v1/completions, greedy, one replica with one "
    "thread, against transformers' generate one after another in a bare process; GPT of 6 layers, "
    "384 wide; alternating rounds, median; and whether the texts are equal"
)
LEAST = 1.4
STREAMS, TOKENS = 8, 64
GPT: dict[str, Any] = LANGUAGE | {
    "network": {"type": "gpt", "layers": 6, "heads": 6, "width": 384, "context": 256}
}
PROMPTS = [
    f"The {name} statement"
    for name in ["for", "while", "with", "try", "import", "class", "def", "return"]
]


def measure(folder: Path, say: Say, rounds: int = 3) -> Result:
    """Alternate one after another and together."""
    ratios, rates, equal = [], [], True
    with serving(folder, {"writer": GPT | {"serve": {}}}) as served:
        stream(served, PROMPTS[0], 4)
        bundle = bundle_of(served, "writer")
        with Bare(bundle, ("text", "generation"), {"inputs": PROMPTS, "tokens": TOKENS}) as bare:
            for number in range(rounds):
                alone = bare.ask("generate")
                began = time.perf_counter()
                with ThreadPoolExecutor(STREAMS) as pool:
                    texts = list(pool.map(lambda prompt: stream(served, prompt, TOKENS), PROMPTS))
                seconds = time.perf_counter() - began
                equal = equal and texts == alone["texts"]
                ratios.append(alone["seconds"] / seconds)
                rates.append({"alone": STREAMS * TOKENS / alone["seconds"],
                              "together": STREAMS * TOKENS / seconds})  # fmt: skip
                say(
                    f"round {number + 1}: {rates[-1]['alone']:.0f} tokens/s one after another, "
                    f"{rates[-1]['together']:.0f} together ({ratios[-1]:.2f}), equal: {equal}"
                )
    ratio, same = statistics.median(ratios), "equal" if equal else "DIFFER"
    return Result(
        f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}), texts {same}",
        f"at least {LEAST}, equal",
        ratio >= LEAST and equal,
        {"tokens_per_s": rates, "ratios": ratios},
    )


def stream(served: Served, prompt: str, tokens: int) -> str:
    """The text of one stream, read event by event."""
    body = {"model": "writer", "prompt": prompt, "max_tokens": tokens}
    request = urllib.request.Request(
        f"{served.url}/v1/completions",
        json.dumps(body | {"temperature": 0, "stream": True}).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {served.token}"},
    )
    text = ""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=120) as answer:
        for line in answer:
            if line.startswith(b"data: {"):
                text += "".join(c["text"] for c in json.loads(line[6:])["choices"])
    return text
