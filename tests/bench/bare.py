"""A bare DeepSpeed script, for comparison: torchrun -m tests.bench.bare CONFIG.

CONFIG is JSON: "rows" (Arrow file), "processor", "network" (GPT2Config), "deepspeed", "lr",
"weight_decay", "seconds", "times" (file for the time after each step).
"""

import json
import os
import sys
import time
from pathlib import Path

import deepspeed
import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM, GPT2Config


def main(config: dict) -> None:
    deepspeed.init_distributed("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(GPT2Config(**config["network"]))
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": decay, "weight_decay": config["weight_decay"]},
        {"params": rest, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config["lr"], fused=True)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config["deepspeed"])
    column = pa.ipc.open_file(pa.memory_map(config["rows"])).read_all().column("tokens")
    rows = column.combine_chunks().flatten().to_numpy().reshape(len(column), -1)
    share = config["deepspeed"]["train_batch_size"] // world_size
    micro = config["deepspeed"]["train_micro_batch_size_per_gpu"]
    order, step, times = np.random.default_rng(0), 0, []
    stop = torch.zeros(1)
    began = time.time()
    while not stop.item():
        chosen = order.integers(len(rows), size=share * world_size)[rank * share :][:share]
        for start in range(0, share, micro):
            tokens = torch.from_numpy(rows[chosen[start : start + micro]].astype(np.int64))
            logits = engine(input_ids=tokens[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            engine.backward(loss)
            engine.step()
        step += 1
        times.append(time.time())
        if step % 10 == 0:
            if rank == 0:
                print(f"step {step} loss {loss.item():.4f}", flush=True)
            stop.fill_(time.time() - began > config["seconds"])
            dist.broadcast(stop, 0)
    if rank == 0:
        Path(config["times"]).write_text(json.dumps(times))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    main(json.loads(Path(sys.argv[-1]).read_text()))
