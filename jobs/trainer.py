"""Ray Train's trainer for torch, without what costs each start of a group and is of no use to it.

Ray's own configuration of torch loads torch in every process that reads it: the driver and the
controller, which come one after the other and need none of it. Here only the workers do.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
import ray.train
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from cluster.machine import free_ports


class Trainer(DataParallelTrainer):  # type: ignore[misc]
    """Starts a group, without the process that hands out Ray's data sets, of which it has none."""

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [each for each in callbacks if not isinstance(each, DatasetsCallback)]


class _TorchBackend(Backend):  # type: ignore[misc]
    """Joins the workers when they have started, and leaves them alone when they end.

    Ray's own ends the group with them, for which it would wait half a minute for one that is
    stopped.
    """

    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Give every worker its place and the address of the first; returns when all have met."""
        assert isinstance(backend_config, TorchBackendConfig)
        address, port = worker_group.execute_single(0, _address)
        worker_group.execute(_join, address, port, backend_config.backend, backend_config.timeout_s)
        worker_group.execute(_heed_signals, backend_config.on_signal)


@dataclass
class TorchBackendConfig(BackendConfig):  # type: ignore[misc]
    """What the workers of a group agree on.

    ``backend`` is torch's name of it (nccl, gloo), ``timeout_s`` how long one waits for the others,
    and ``on_signal`` is called in a worker with the name of a signal that asks it to leave.
    """

    backend: str
    timeout_s: int
    on_signal: Callable[[str], None]

    @property
    def backend_cls(self) -> type[Backend]:
        """What Ray Train calls when workers have started."""
        return _TorchBackend


def _address() -> tuple[str, int]:
    """In the first worker: where the others find it."""
    return ray.util.get_node_ip_address(), free_ports(1)[0]


def _join(address: str, port: int, backend: str, timeout_s: int) -> None:
    """In each worker: the variables that torchrun sets, and the group of them all."""
    import torch.distributed

    place = ray.train.get_context()
    os.environ |= {
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        "RANK": str(place.get_world_rank()),
        "WORLD_SIZE": str(place.get_world_size()),
        "LOCAL_RANK": str(place.get_local_rank()),
        "LOCAL_WORLD_SIZE": str(place.get_local_world_size()),
        "NODE_RANK": str(place.get_node_rank()),
    }
    torch.distributed.init_process_group(backend, timeout=timedelta(seconds=timeout_s))


def _heed_signals(on_signal: Callable[[str], None]) -> None:
    """In the main thread of a worker: SIGTERM asks it to save and leave, rather than ends it."""
    signal.signal(signal.SIGTERM, lambda *_: on_signal("SIGTERM"))
