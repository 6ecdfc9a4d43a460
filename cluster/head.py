"""Start the head of a Ray cluster; run as a file, in a session of its own.

`cluster.local` runs it on this machine, and the launcher on the head's, which has a copy and none
of our packages. It does what `ray start --head` does, less three things that command cannot leave
out: it starts no Ray client server, does not turn 127.0.0.1 into the machine's public address (so
nothing of a local cluster listens beyond the loopback), and does not wait for the dashboard before
starting the raylet, which halves the time. And it leaves a keeper, which starts again what ends of
it. Reads a JSON file named by its argument, writes `ready` there described, and exits.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

KEPT = ("gcs_server", "dashboard", "monitor", "log_monitor")


def main(path: str) -> None:
    """Start the head described by the JSON file at `path`.

    The file holds `port`, `dashboard_port` and `ready`: the file that receives `{"pids",
    "session"}` once all processes answer. On this machine also `address`, `num_cpus`,
    `object_store_bytes`, `temp` and `record` (the cluster's record, for the keeper); on others,
    which find these out by themselves, `object_manager_port`, `worker_ports` and
    `autoscaling_config`.
    """
    plan = json.loads(Path(path).read_text())
    node = _head_class()(_parameters(plan), head=True, shutdown_at_exit=False, spawn_reaper=False)
    node.join_api_server()
    _await_port(plan["dashboard_port"])
    started = {kind: each[0].process for kind, each in node.all_processes.items() if each}
    if plan.get("temp") is None:  # people type `ray status` there
        ray_file = Path(node.get_temp_dir_path()) / "ray_current_cluster"
        ray_file.write_text(node.gcs_address)
    pids = {kind: process.pid for kind, process in started.items()}
    pids["keeper"] = _start_keeper(started, plan)
    ready = Path(plan["ready"]).expanduser()
    draft = ready.with_suffix(".tmp")
    draft.write_text(json.dumps({"pids": pids, "session": node.session_name}))
    draft.replace(ready)


def _start_keeper(started: dict[str, Any], plan: dict[str, Any]) -> int:
    """Start `cluster.keeper` over all but the raylet; returns its process id."""
    ports = {"gcs_server": plan["port"], "dashboard": plan["dashboard_port"]}
    kept = {
        kind: {"pid": process.pid, "command": list(map(str, process.args)), "port": ports.get(kind)}
        for kind, process in started.items()
        if kind in KEPT
    }
    content = {"record": plan.get("record"), "raylet": started["raylet"].pid, "kept": kept}
    path = Path(plan["ready"]).expanduser().with_name("keeper.json")
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    command = [sys.executable, "-P", str(Path(__file__).with_name("keeper.py")), str(path)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL).pid


def _await_port(port: int, timeout_s: float = 60.0) -> None:
    """Wait until the dashboard answers: over a kept head state Ray finds the last one's address."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the dashboard did not answer in {timeout_s:.0f} s") from None
            time.sleep(0.1)


def _parameters(plan: dict[str, Any]) -> Any:
    import ray._private.parameter
    import ray._private.services

    address = plan.get("address") or ray._private.services.get_node_ip_address()
    least, most = plan.get("worker_ports", (0, 0))
    scaling = plan.get("autoscaling_config")
    # A port of 0 is bound by the process that uses it: no other cluster can take it in between.
    return ray._private.parameter.RayParams(
        node_ip_address=address,
        node_name=address,
        gcs_server_port=plan["port"],
        dashboard_host="127.0.0.1",
        dashboard_port=plan["dashboard_port"],
        include_dashboard=True,
        min_worker_port=least,
        max_worker_port=most,
        object_manager_port=plan.get("object_manager_port", 0),
        node_manager_port=0,
        dashboard_agent_listen_port=0,
        metrics_agent_port=0,
        runtime_env_agent_port=0,
        metrics_export_port=0,
        num_cpus=plan.get("num_cpus"),
        object_store_memory=plan.get("object_store_bytes"),
        temp_dir=plan.get("temp"),
        autoscaling_config=os.path.expanduser(scaling) if scaling else None,
        include_log_monitor=True,
        num_redis_shards=None,
        redis_max_clients=None,
    )


def _head_class() -> Any:
    import ray._private.node

    class Head(ray._private.node.Node):  # type: ignore[misc]
        """A head node whose dashboard starts while the raylet does."""

        def start_api_server(self, **options: Any) -> None:
            self._api_error: BaseException | None = None
            self._api_thread = threading.Thread(target=self._start_api_server, kwargs=options)
            self._api_thread.start()

        def _start_api_server(self, **options: Any) -> None:
            try:
                super().start_api_server(**options)
            except BaseException as error:
                self._api_error = error

        def join_api_server(self) -> None:
            self._api_thread.join()
            if self._api_error is not None:
                raise self._api_error

    return Head


if __name__ == "__main__":
    main(sys.argv[1])
    # Ray's background threads have nothing left to do here and would delay the exit.
    sys.stdout.flush()
    os._exit(0)
