"""What a local cluster takes of this machine: processors, shared memory, ports, environment."""

from __future__ import annotations

import os
import random
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from .client import STOPPING
from .home import Home
from .processes import MARK
from .proxy import guard_proxy, proxy_environment

if TYPE_CHECKING:
    from .spec import Spec

# Below the range that the kernel hands to outgoing connections (32768 and up).
PORTS = range(20000, 32000)
SHARED_MEMORY = Path("/dev/shm")
SMALLEST_OBJECT_STORE = 80 * 2**20
LARGEST_OBJECT_STORE = 64 * 2**30

# As on macOS: Ray otherwise turns 127.0.0.1 into the machine's public address wherever it connects.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

# What would point the head at another cluster, or win over its own token.
FOREIGN = frozenset(
    (
        "RAY_ADDRESS",
        "RAY_API_SERVER_ADDRESS",
        "RAY_AUTH_TOKEN",
        "RAY_FAKE_CLUSTER",
        "RAY_GCS_SERVER_PORT",
        "RAY_gcs_storage",
        "RAY_gcs_storage_path",
        "RAY_JOB_CONFIG_JSON_ENV_VAR",
        "RAY_JOB_ID",
        "RAY_NODE_ID",
        "RAY_RAYLET_PID",
        "RAY_REDIS_ADDRESS",
        "RAY_START_HOOK",
        "RAY_TMPDIR",
    )
)


def num_cpus(spec: Spec) -> int:
    """Logical CPUs of a local cluster: of its pools, else of its head, else the machine's."""
    named = [pool.cpus * max(1, pool.nodes.min) for pool in spec.cluster.pools if pool.cpus]
    return sum(named) or spec.cluster.head.cpus or available_cpus()


def available_cpus() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def object_store_size() -> int:
    """Bytes for Ray's object store: 30 % of the free memory, within what /dev/shm has."""
    size = psutil.virtual_memory().available * 3 // 10
    if SHARED_MEMORY.is_dir():
        size = min(size, shutil.disk_usage(SHARED_MEMORY).free * 8 // 10)
    return max(SMALLEST_OBJECT_STORE, min(size, LARGEST_OBJECT_STORE))


def num_gpus() -> int:
    """NVIDIA devices of this machine, without asking torch or a driver."""
    return sum(1 for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit())


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now, below the kernel's own range; all held while choosing."""
    chosen: list[int] = []
    with ExitStack() as held:
        for port in random.sample(PORTS, len(PORTS)):
            if _hold(port, held):
                chosen.append(port)
            if len(chosen) == count:
                return chosen
    raise OSError(f"no {count} free ports between {PORTS.start} and {PORTS.stop}")


def are_free(ports: Sequence[int]) -> bool:
    """Whether nothing listens on any of the ports."""
    with ExitStack() as held:
        return all(_hold(port, held) for port in ports)


def _hold(port: int, held: ExitStack) -> bool:
    candidate = held.enter_context(socket.socket())
    try:
        # A port that was used a moment ago and is only waiting out its time counts as free.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        candidate.bind(("", port))
        candidate.listen(1)
    except OSError:
        return False
    return True


SELDOM = {
    # Of one machine's clusters nobody needs figures by the second, and on two cores what Ray spends
    # on them is taken from training. How much these save was not measured by themselves.
    "REPORTER_UPDATE_INTERVAL_MS": "30000",
    "METRICS_RECORD_INTERVAL_S": "30",
    "SCAN_EVENT_DIR_INTERVAL_SECONDS": "30",
    "RAY_event_stats": "0",
    "RAY_core_worker_internal_heartbeat_ms": "5000",
    "RAY_gcs_pull_resource_loads_period_milliseconds": "5000",
}


def head_environment(
    spec: Spec, home: Home, ports: Sequence[int], outer: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The head's environment, which every process and job of the cluster inherits.

    `ports`: of the head, the dashboard, and the metrics of dashboard and autoscaler.
    """
    environment = SELDOM | {n: value for n, value in outer.items() if n not in FOREIGN}
    head, dashboard, dashboard_metrics, autoscaler_metrics = ports
    environment |= LOOPBACK | {
        **STOPPING,
        MARK: home.mark,
        "SLIPWAY_CLUSTER_ID": home.id,
        "SLIPWAY_ROOT": str(spec.root),
        # Before the head starts: Ray Train's cleaner asks "the" Ray of the machine otherwise.
        "RAY_ADDRESS": f"127.0.0.1:{head}",
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(home.token),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray's own 15 lets its dashboard and agents push training aside on a small machine.
        "RAY_worker_niceness": "0",
        "DASHBOARD_METRIC_PORT": str(dashboard_metrics),
        "AUTOSCALER_METRIC_PORT": str(autoscaler_metrics),
    }
    # A proxy of the user's must not be sent what goes to this machine.
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in environment.get(name, "").split(",") if host]
        environment[name] = ",".join(dict.fromkeys([*hosts, "127.0.0.1", "localhost"]))
    environment.setdefault("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix) / "torch_extensions"))
    # ninja, which compiles DeepSpeed's extensions, is a command of this environment
    path = [
        str(Path(sys.executable).parent),
        *environment.get("PATH", os.defpath).split(os.pathsep),
    ]
    environment["PATH"] = os.pathsep.join(dict.fromkeys(path))
    if not num_gpus():
        environment.setdefault("DS_ACCELERATOR", "cpu")
    if spec.cluster.high_availability in ("auto", "embedded"):
        environment |= {
            "RAY_gcs_storage": "rocksdb",
            "RAY_gcs_storage_path": str(home.head_state),
        }
    proxy = proxy_environment(home.temp(), free_ports(2)) | guard_proxy(home.temp())
    return environment | proxy | _declared(spec)


def _declared(spec: Spec) -> dict[str, str]:
    """`cluster.env` of the spec, with its secrets read."""
    values: dict[str, str] = {}
    for name, value in spec.cluster.env.items():
        if isinstance(value, str):
            values[name] = value
        else:
            from .secrets import resolve

            values[name] = resolve(value)
    return values
