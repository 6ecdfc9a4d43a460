"""Checkpoints of a run in storage: a folder counts once its manifest is there.

Storage is the one owner of a run's state. Neither Ray Train's controller nor DeepSpeed's ``latest``
file is asked where a run stands.

Training pauses while each worker writes its file to the disk of its node. What follows goes on
behind it, one checkpoint at a time: every worker uploads its file, and once all have, which they
tell each other with the next steps, rank 0 publishes the manifest with all digests. A store that
is away or full delays that; it never ends a run before its last checkpoint.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed

from cluster.storage import DamagedError, Storage, StorageError
from jobs.agreement import AgreedError, at_rank_0, together
from jobs.errand import PATIENCE_S, Errand
from jobs.progress import FORMAT, MANIFEST, damaged_manifests, sealed, unpublished
from jobs.runs import Checkpoint, Run, checkpoints
from jobs.session import say
from jobs.state_files import BUFFERS, rank_file
from jobs.workplace import StateFiles, Workplace

if TYPE_CHECKING:  # who looks after the run needs no DeepSpeed, which takes a second to import
    from jobs.engine import Engine

RETRY_EVERY_S = 5.0


@dataclass
class Sent:
    """A checkpoint whose files are on their way."""

    step: int
    path: str
    content: dict[str, Any]
    files: Errand[dict[str, Any]]


class Checkpoints:
    """Save, find, load and prune the checkpoints of one attempt; every verb is collective."""

    def __init__(
        self,
        run: Run,
        attempt: int,
        keep: int,
        higher_is_better: bool,
        flush: Callable[[], None] = lambda: None,
    ) -> None:
        """``flush`` brings to storage what has to be there before a manifest is (rank 0)."""
        self.run, self.attempt, self.keep, self.flush = run, attempt, keep, flush
        self.higher_is_better = higher_is_better
        self.storage: Storage = run.storage
        self.rank = torch.distributed.get_rank()
        self.world_size = torch.distributed.get_world_size()
        self.workplace = Workplace(run, attempt, self.rank)
        self.published: int | None = None
        self.problem, self._swept = "", False
        self._sent: Sent | None = None
        self._publication: Errand[None] | None = None
        self._publishing = 0
        """Step of the checkpoint that is being published, or was."""

    # Saving

    def save(self, engine: Engine, step: int, state: dict[str, Any], last: bool = False) -> None:
        """Write the engine at ``step`` (steps done) to the nodes' disks, and send it on its way.

        ``state`` goes into the manifest. What prevents that is told, and the training goes on;
        AgreedError is raised on all workers only for the ``last`` checkpoint, which is awaited,
        and where a newer attempt has taken over. Nothing half-written becomes visible.
        """
        at_rank_0(lambda: self.run.check_latest(self.attempt))
        patience_s = PATIENCE_S if last else None
        try:
            self._clear(patience_s)
            self._write(engine, step, state, patience_s)
            if last:
                self._clear(patience_s)
        except AgreedError as error:
            self._abandon(step)
            self._tell(step, str(error))
            if last:
                raise AgreedError(self.problem) from None

    @property
    def delivered(self) -> bool:
        """Whether this worker's files have arrived, or failed to: to be told to the others."""
        return self._sent is not None and self._sent.files.done

    def settle(self) -> None:
        """Publish what every worker has delivered, or tell why that is not to be."""
        assert self._sent is not None, "nothing was delivered"
        step = self._sent.step
        try:
            self._settle()
        except AgreedError as error:
            self._tell(step, str(error))

    def drain(self) -> None:
        """Publish what is under way, before the run goes back or its workers leave."""
        try:
            self._clear(PATIENCE_S)
        except AgreedError as error:
            self._tell(self._sent.step if self._sent else 0, str(error))

    def _settle(self) -> None:
        sent, self._sent = self._sent, None
        assert sent is not None, "nothing was delivered"
        try:
            parts = together(sent.files.result)
        except AgreedError:
            self._abandon(sent.step)
            raise
        if self.rank == 0:
            files = {name: entry for part in parts for name, entry in part.items()}
            manifest = {**sent.content, "files": files}
            what = f"the checkpoint of step {sent.step}"
            self._publishing = sent.step
            self._publication = Errand(lambda: self._publish(sent.path, manifest), what)

    def _clear(self, patience_s: float | None) -> None:
        """Have nothing in flight: wait for what is slow, and so long for a store that is away."""
        if self._sent is not None:
            sent = self._sent
            together(lambda: sent.files.wait(patience_s))
            self._settle()
        publication, self._publication = self._publication, None
        try:
            together(lambda: publication.wait(patience_s) if publication else None)
        except AgreedError:
            self._publication = publication
            raise
        together(lambda: publication.result() if publication else None)

    def _write(
        self, engine: Engine, step: int, state: dict[str, Any], patience_s: float | None
    ) -> None:
        path = self._path(step)
        folder = together(lambda: self.workplace.outgoing(path))[self.rank]
        deadline = time.monotonic() + (patience_s or 0.0)
        while True:
            try:
                [memory, *_] = together(lambda: engine.save(folder))
                break
            except AgreedError:
                if any(together(lambda: time.monotonic() > deadline)):
                    raise
                time.sleep(RETRY_EVERY_S)
        content: dict[str, Any] = {"format": FORMAT, "step": step, "zero_stage": engine.stage}
        content |= {"world_size": self.world_size, "optimizer": memory, **state}
        names = [rank_file(self.rank), *([BUFFERS] if self.rank == 0 else [])]
        what = f"the checkpoint of step {step}"
        files = Errand(lambda: self.workplace.deliver(folder, path, names), what)
        self._sent = Sent(step, path, content, files)

    def _publish(self, path: str, manifest: dict[str, Any]) -> None:
        """Make the checkpoint count, and delete those that are not kept."""
        self.flush()
        self.run.check_latest(self.attempt)
        self.storage.write_json(f"{path}/{MANIFEST}", sealed(manifest))
        self.published = manifest["step"]
        with contextlib.suppress(StorageError):  # what stays is deleted with the next one
            self._prune()
            self._sweep()

    def _abandon(self, step: int) -> None:
        """Leave nothing of a checkpoint that is not to be, unless it is being published."""
        if self._sent is not None and self._sent.step == step:
            self._sent.files.give_up()
            self._sent = None
        mine = self._publication if self._publishing == step else None
        if self.rank == 0 and (mine is None or mine.give_up()):
            self._publication = None if mine else self._publication
            with contextlib.suppress(StorageError):
                if self.published != step:
                    self.storage.delete_tree(self._path(step))

    def _tell(self, step: int, cause: str) -> None:
        self.problem = f"the checkpoint of step {step} was not saved: {cause}"
        if self.rank == 0:
            since = "so far" if self.published is None else f"since step {self.published}"
            say(f"warning: {self.problem}; the steps {since} are at risk")

    def _path(self, step: int) -> str:
        return f"{self.run.path}/{self.attempt}/checkpoints/step-{step:06d}"

    def best(self) -> Checkpoint | None:
        """The checkpoint whose validation metric is best; of equals, the earlier."""
        scored = [c for c in checkpoints(self.run) if c.manifest.get("metric") is not None]
        sign = -1.0 if self.higher_is_better else 1.0
        return min(scored, key=lambda c: (sign * c.manifest["metric"], c.step), default=None)

    def _prune(self) -> None:
        """Delete all but the newest ``keep`` and the best, each manifest first."""
        held = sorted(checkpoints(self.run), key=lambda c: c.step)
        best = self.best()
        for old in held[: -self.keep]:
            if best is None or old.path != best.path:
                self.storage.delete(f"{old.path}/{MANIFEST}")
                self.storage.delete_tree(old.path)

    def _sweep(self) -> None:
        """Delete what earlier attempts had begun to save when they ended, once an attempt."""
        if self._swept:
            return
        self._swept = True
        for path in unpublished(self.run, self.attempt):
            self.storage.delete_tree(path)

    # Loading

    def load(self, engine: Engine, checkpoint: Checkpoint) -> None:
        """Load a checkpoint into the engine of each worker, its files verified first.

        Whatever number of workers, ZeRO stage and precision it was saved with. Raises AgreedError
        on all workers where a file is gone or is not what was saved.
        """
        with self.workplace.incoming(checkpoint) as files:
            paths = together(lambda: self._gather(engine, files))[self.rank]
            together(lambda: engine.fill(paths, checkpoint.manifest["optimizer"]))
        engine.refresh()

    def _gather(self, engine: Engine, files: StateFiles) -> list[Path]:
        if files.checkpoint.manifest.get("format") != FORMAT:
            url = self.storage.url(files.checkpoint.path)
            raise DamagedError(f"{url} was saved by another version of Slipway")
        return engine.gather(files.names, files.fetch)

    def resume(self, engine: Engine) -> Checkpoint | None:
        """Load the newest checkpoint that is whole, and say which; None where there is none."""
        damaged: set[str] = set()
        for path in at_rank_0(lambda: damaged_manifests(self.run)):
            if self.rank == 0:
                url = self.storage.url(path)
                say(f"warning: {url} is damaged; going back to an earlier checkpoint")
        while True:
            found = self.newest(damaged)
            if found is None:
                return None
            try:
                self.load(engine, found)
                self.published = found.step
                return found
            except AgreedError as error:
                damaged.add(found.path)
                if self.rank == 0:
                    say(f"warning: {error}; going back to an earlier checkpoint")

    def newest(self, damaged: Collection[str] = ()) -> Checkpoint | None:
        """Rank 0's choice, known to all: the last checkpoint but for those known as damaged."""

        def choose() -> Checkpoint | None:
            held = [c for c in checkpoints(self.run) if c.path not in damaged]
            return max(held, key=lambda c: c.step, default=None)

        return at_rank_0(choose)
