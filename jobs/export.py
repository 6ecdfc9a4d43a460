"""From a finished training to a version: the bundle's files, and where they come from."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cluster.code import code_revision
from cluster.spec import ModelSpec
from jobs.bundles import claim_version, publish_version, versions
from jobs.domains import Domain
from jobs.runs import Checkpoint, Run, latest_checkpoint, stage_digest


@dataclass(frozen=True)
class Trained:
    """An attempt of a run that has come to its end."""

    model: ModelSpec
    run: Run
    attempt: int
    data: str
    precision: str

    def publish(
        self,
        name: str,
        domain: Domain,
        network: nn.Module,
        weights: Mapping[str, Tensor],
        step: int,
        best: Checkpoint | None,
    ) -> int:
        """Write the bundle and publish it under a number that no zombie can write to.

        A version that the run published before it was cut off is taken as it is.
        """
        for version in versions(self.run.storage, name):
            if version.bundle["run"] == self.run.id:
                return version.number
        with tempfile.TemporaryDirectory(prefix="slipway-bundle-") as folder:
            domain.save(network, weights, Path(folder))
            number = claim_version(self.run.storage, name, f"{self.run.id}/{self.attempt}")
            bundle = self._bundle(domain, step, best)
            publish_version(self.run.storage, name, number, Path(folder), bundle)
        return number

    def _bundle(self, domain: Domain, step: int, best: Checkpoint | None) -> dict[str, Any]:
        model = self.model
        saved = best or latest_checkpoint(self.run)
        source = saved and {"path": saved.path, "digest": stage_digest(saved.manifest["files"])}
        return {
            "format": 1,
            "domain": model.domain,
            "task": model.task,
            "network": model.network.model_dump(mode="json", by_alias=True),
            "labels": domain.labels,
            "precision": self.precision,
            "metric": model.metric,
            "run": self.run.id,
            "step": step,
            "checkpoint": source,
            "seed": model.train.seed,
            "data": self.data,
            "code": code_revision(),
            "spec": model.model_dump(mode="json", by_alias=True),
        }
