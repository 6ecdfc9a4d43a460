"""A network in a loop, as fast as it goes: python -m tests.bench.bare_network FOLDER KIND BODY.

Lines of JSON are asked and answered: ["passes", records in a batch, seconds] with the median
milliseconds of a pass, ["generate"] with the seconds and texts of greedy continuations.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from jobs.domains import load
from jobs.domains.text.padding import joined_rows, padded


def main(folder: str, domain: str, task: str, body: str) -> None:
    """Answer until the input ends."""
    torch.set_num_threads(1)
    loaded: Any = load(domain, task, Path(folder))
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        work = {"passes": passes, "generate": generate}[what]
        print(json.dumps(work(loaded, json.loads(body), *arguments)), flush=True)


@torch.inference_mode()
def passes(loaded: Any, body: dict[str, Any], size: int, seconds: float) -> float:
    """Nothing but the network: tensors are ready, and nobody looks at the logits."""
    rows = joined_rows([loaded.row(body)] * int(size))
    batch = padded(rows, loaded.vocabulary.padding, torch.device("cpu"))
    times = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        loaded.network(**batch)
        times.append(time.perf_counter() - began)
    return statistics.median(times[len(times) // 10 :]) * 1e3


@torch.inference_mode()
def generate(loaded: Any, body: dict[str, Any]) -> dict[str, Any]:
    """transformers' own generate, a prompt after another."""
    vocabulary, texts = loaded.vocabulary, []
    began = time.perf_counter()
    for prompt in body["inputs"]:
        ids = torch.from_numpy(vocabulary.encode(prompt)).long()[None]
        made = loaded.network.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=body["tokens"],
            do_sample=False,
            pad_token_id=vocabulary.end,
            eos_token_id=vocabulary.end,
        )
        texts.append(vocabulary.decode(made[0, ids.shape[1] :].tolist()))
    return {"seconds": time.perf_counter() - began, "texts": texts}


if __name__ == "__main__":
    main(*sys.argv[1:])
