"""A function run by several processes under torch.distributed: the group that Ray Train would make.

results = run_group(train, 2, spec, data)   # results[rank] is what train(spec, data) returned
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing


def run_group(function: Callable[..., Any], num_workers: int, *arguments: Any) -> list[Any]:
    """Call ``function(*arguments)`` in each process of a group; its results by rank.

    The function must be importable. Raises torch's ProcessRaisedException with the traceback of
    the first process that failed; the others are ended.
    """
    with tempfile.TemporaryDirectory(prefix="slipway-group-") as folder:
        work = (num_workers, _free_port(), folder, function, arguments)
        torch.multiprocessing.spawn(_enter, work, nprocs=num_workers)
        return [pickle.loads(Path(folder, str(rank)).read_bytes()) for rank in range(num_workers)]


def _enter(
    rank: int,
    num_workers: int,
    port: int,
    folder: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    faulthandler.enable()
    # DeepSpeed reads its place from these. Without LOCAL_SIZE, as under Ray Train, it keeps no
    # buffers of 66 MiB a process in shared memory, which it would leave there.
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(num_workers),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix) / "torch_extensions"))
    # DeepSpeed calls ninja even where its extensions are compiled already.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    torch.set_num_threads(1)
    store = f"file://{folder}/rendezvous"
    torch.distributed.init_process_group("gloo", store, rank=rank, world_size=num_workers)
    try:
        Path(folder, str(rank)).write_bytes(pickle.dumps(function(*arguments)))
        torch.distributed.barrier()  # who leaves early closes connections that others still use
    finally:
        torch.distributed.destroy_process_group()
    # Groups that DeepSpeed made live on in its engines, and may abort the process when
    # the interpreter takes them down after the peers have gone.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
