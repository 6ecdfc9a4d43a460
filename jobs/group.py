"""One group of training workers under Ray Train: started, and watched until it ends.

Ray Train starts the processes and notices those that die. That they are stuck, asked to leave, or
could be more is noticed here. Whether another group follows is decided in `jobs.fit`.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import ray.train

from cluster.allocator import KEEP_MEMORY
from cluster.spec import ModelSpec, Spec, share_of_cpus, usable_pools
from cluster.spec.places import on_pool
from jobs import reach
from jobs.crew import told, work
from jobs.errand import PATIENCE_S
from jobs.placement import Placement, place
from jobs.runs import Run
from jobs.session import say
from jobs.stopping import LONGEST_S
from jobs.task import Task
from jobs.trainer import TorchBackendConfig, Trainer
from jobs.watch import REPORT_EVERY_S, Place, Seen, Watch, is_stalled, to_blame, verdict

GROW_EVERY_S = 10.0
NOTICES = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
NODE_LABEL = "ray.io/node-id"


@dataclass(frozen=True)
class Ended:
    """How a group ended; exactly one of the first three is set."""

    outcome: dict[str, Any] | None = None
    """What `jobs.loop.Worker.work` gave; with a key ``left`` where it did not reach the end."""
    refusal: str | None = None
    """Why it makes no sense to try again."""
    failure: str | None = None
    """Why it ended that time; another try may do better."""
    avoid: frozenset[str] = frozenset()
    """Nodes that the next group should do without."""


_watches: dict[str, Any] = {}
"""The watch of this process, by Ray's id of it: its groups come one after the other."""


def _watch_of_this_process() -> Any:
    process = ray.get_runtime_context().get_worker_id()
    if process not in _watches:
        _watches.clear()
        _watches[process] = ray.remote(num_cpus=0, max_restarts=-1)(Watch).remote()
    return _watches[process]


def room(
    spec: Spec,
    model: ModelSpec,
    gpus: bool,
    without: Collection[str] = (),
    fixed: bool = False,
    cpus: float | None = None,
) -> int | None:
    """Workers that the nodes of today can hold, but for some; ``cpus`` each, the spec's by default.

    None where the number of workers is fixed, and so is not a question, unless ``fixed`` asks it.
    """
    if model.train.workers.min == model.train.workers.max and not fixed:
        return None
    if cpus is None:
        each_worker = model.train.cpus_per_worker
        cpus = 1.0 if each_worker == "auto" else float(each_worker)
    kind, each = ("GPU", model.train.accelerator_share) if gpus else ("CPU", cpus)
    wanted = on_pool(spec.cluster, model.train.pool).items()
    alive = [
        node
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] not in without and wanted <= node["Labels"].items()
    ]
    return sum(int(node["Resources"].get(kind, 0.0) / each) for node in alive)


def on_gpus(spec: Spec, model: ModelSpec) -> bool:
    """Whether the pools that a model may use have accelerators."""
    return any(pool.accelerators for pool in usable_pools(spec.cluster, model.train))


class Group:
    """The workers of one placement; ``run`` them to whatever end."""

    def __init__(
        self,
        task: Task,
        run: Run,
        placed: Placement,
        sizes: Mapping[str, int] | None = None,
        without: Collection[str] = (),
        asked: threading.Event | None = None,
    ) -> None:
        """``asked`` is set once the workers shall save and leave."""
        self.task, self.placed, self.sizes, self.without = task, placed, sizes, without
        self.model = task.spec.model(task.model)
        self.train = self.model.train
        self.gpus = on_gpus(task.spec, self.model)
        self.storage = {
            "storage_path": run.storage.bulk_path(f"{run.path}/ray"),
            "storage_filesystem": run.storage.filesystem(),
        }
        self._id = uuid.uuid4().hex
        self._ended: list[Ended] = []
        self._given_up: Ended | None = None
        self._asked = asked or threading.Event()
        self._told: float | None = None
        """When the workers were told to leave, since it was ``asked``."""
        self._looked_for_room = time.monotonic()

    def run(self) -> Ended:
        """Start the workers and watch them until the group has ended."""
        watch = _watch_of_this_process()
        watch.begin.remote(self._id)
        thread = threading.Thread(target=self._fit, args=(watch,), daemon=True)
        thread.start()
        while thread.is_alive() and not self._is_left_alone():
            thread.join(REPORT_EVERY_S)
            if thread.is_alive() and self._given_up is None:
                self._look(watch)
        return self._given_up or self._ended[0]

    def _fit(self, watch: Any) -> None:
        try:
            found = self._trainer(watch).fit().return_value
        except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
            print(error, flush=True)  # with the worker's traceback, into the log
            self._ended.append(Ended(failure=failure(error)))
            return
        except Exception as error:
            self._ended.append(Ended(refusal=f"{type(error).__name__}: {error}"))
            raise
        if isinstance(found, str):
            self._ended.append(Ended(refusal=found))
        else:
            self._ended.append(Ended(outcome=dict(found)))

    def _trainer(self, watch: Any) -> Any:
        return Trainer(
            work,
            train_loop_config={
                "task": self.task,
                "watch": watch,
                "group": self._id,
                "notices": os.environ.get(NOTICES) != "0",
            },
            scaling_config=self._scaling(),
            # Longer than the watch waits, which has the first word, and than the last save may.
            backend_config=TorchBackendConfig(
                backend="nccl" if self.gpus else "gloo",
                timeout_s=int(self.train.stall + PATIENCE_S) + 60,
                on_signal=told,
            ),
            run_config=ray.train.RunConfig(
                name=self.task.run,
                worker_runtime_env={"env_vars": KEEP_MEMORY},
                failure_config=ray.train.FailureConfig(max_failures=0, max_preemption_failures=0),
                **self.storage,
            ),
        )

    def _scaling(self) -> ray.train.ScalingConfig:
        """One device per worker where the pool has accelerators, else CPUs."""
        cpus, workers = self.train.cpus_per_worker, self.placed.workers
        if cpus == "auto":
            cpus = self._share(workers)
        resources = {"CPU": float(cpus)}
        if self.gpus:
            resources["GPU"] = self.train.accelerator_share
        labels = on_pool(self.task.spec.cluster, self.train.pool)
        if self.without:
            labels[NODE_LABEL] = f"!in({','.join(sorted(self.without))})"
        return ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=self.gpus,
            resources_per_worker=resources,
            label_selector=labels or None,
        )

    def _share(self, workers: int) -> int:
        """CPUs of each worker under ``auto``; fewer where not all nodes of the file are there."""
        cpus = share_of_cpus(self.task.spec.cluster, self.train, workers)
        while cpus > 1:
            held = room(
                self.task.spec, self.model, self.gpus, self.without, bool(self.without), cpus
            )
            if held is None or held >= workers:
                break
            cpus -= 1
        return cpus

    def _look(self, watch: Any) -> None:
        try:
            now, seen = ray.get(watch.look.remote(), timeout=REPORT_EVERY_S)
            if self._asked.is_set():
                self._have_leave(watch, seen)
            elif is_stalled(now, seen, self.placed.workers, self.train.stall):
                self._end_stalled(watch)
            elif time.monotonic() - self._looked_for_room > GROW_EVERY_S:
                self._grow(watch)
        except ray.exceptions.RayError:
            return  # the head is away for a moment, or the watch starts anew

    def _have_leave(self, watch: Any, seen: Sequence[Seen]) -> None:
        """Have the workers save and leave; there is nothing to wait for where none has begun."""
        if self._told is None:
            self._told = time.monotonic()
            say("asked to stop: the workers save and leave")
            watch.order.remote(leave="it was asked to stop")
        if not seen or time.monotonic() - self._told > LONGEST_S:
            self._given_up = Ended(failure="it was asked to stop")

    def _is_left_alone(self) -> bool:
        """Whether this process goes without waiting for what is left of the group."""
        return self._given_up is not None and self._told is not None

    def _grow(self, watch: Any) -> None:
        """Have the workers leave where more of them would fit: the next group is larger."""
        self._looked_for_room = time.monotonic()
        spec = self.task.spec
        most = room(self.task.spec, self.model, self.gpus, self.without)
        if most is None or most < self.placed.workers:
            return
        wanted = place(spec, self.task.model, self.sizes, most).workers
        if wanted > self.placed.workers:
            watch.order.remote(leave=f"there is room for {wanted} workers")

    def _end_stalled(self, watch: Any) -> None:
        """Tell where every worker is, name those that hold the others up, and end these."""
        watch.order.remote(stack=True)
        time.sleep(2 * REPORT_EVERY_S)
        now, seen = ray.get(watch.look.remote(), timeout=REPORT_EVERY_S)
        for each in seen:
            say(f"{each.place}, phase {each.phase}:\n{_stack(each, now)}")
        blamed = to_blame(now, seen)
        text = verdict(now, blamed, self.train.stall)
        say(f"warning: {text}; restarting")
        nodes = frozenset(each.place.node for each in blamed)
        self._given_up = Ended(failure=text, avoid=nodes)
        for each in [*blamed, *seen]:
            _end(each.place)


def _stack(seen: Seen, now: float) -> str:
    if seen.stack is not None and not seen.silent(now):
        return seen.stack.rstrip()
    return reach.stack_of(seen.place)


def _end(place: Place) -> None:
    reach.end(place)


def failure(error: Exception) -> str:
    """Return the cause of a failed training in one line: the first worker's own words."""
    failures = getattr(error, "worker_failures", None)
    if not failures:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"training failed: {lines[0].strip() if lines else type(error).__name__}"
    rank, first = min(failures.items())
    lines = [line for line in str(first).splitlines() if line.strip()]
    return f"training failed on worker {rank}: {lines[-1].strip() if lines else repr(first)}"
