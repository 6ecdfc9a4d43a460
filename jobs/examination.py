"""A network's pass over records: outcomes, the worst mistakes with their records, latency."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from jobs.domains import Columns, Domain, Outcomes
from jobs.domains.details import Shown
from jobs.feed import to_device
from jobs.scored import record_of
from jobs.scoring import joined

LATENCY_RECORDS = 200
WARM_UP = 5
NUM_WORST = 12


@dataclass
class Mistakes:
    """The worst mistakes so far, each with a copy of its row: bounded whatever is scored."""

    domain: Domain
    rows: list[Columns] = field(default_factory=list)
    outcomes: list[Outcomes] = field(default_factory=list)

    def add(self, rows: Columns, outcomes: Outcomes) -> None:
        """Take a batch into account."""
        held, fresh = len(self.outcomes), outcomes
        found = self.domain.worst(joined([*self.outcomes, fresh]), NUM_WORST).tolist()
        kept_rows, kept = [], []
        for place in found:
            if place < held:
                kept_rows.append(self.rows[place])
                kept.append(self.outcomes[place])
            else:
                kept_rows.append(record_of(rows, place - held))
                kept.append(_at(fresh, place - held))
        self.rows, self.outcomes = kept_rows, kept

    def show(self) -> list[Shown]:
        """Those records for a person, the worst first."""
        return [
            shown
            for rows, outcomes in zip(self.rows, self.outcomes, strict=True)
            for shown in self.domain.show(rows, outcomes)
        ]


@dataclass(frozen=True)
class Examination:
    """What came of all records."""

    outcomes: Outcomes
    units: int
    """Tokens, images, ...: what the domain counts."""
    mistakes: Mistakes
    latency: dict[str, float]


@torch.no_grad()
def examine(
    domain: Domain, network: nn.Module, batches: Iterator[Columns], device: torch.device
) -> Examination:
    """Score all batches; ValueError where there is none."""
    network.eval()
    found: list[Outcomes] = []
    first: list[Columns] = []
    mistakes, units = Mistakes(domain), 0
    for rows in batches:
        size = len(next(iter(rows.values())))
        first += [record_of(rows, i) for i in range(min(size, LATENCY_RECORDS - len(first)))]
        batch = to_device(domain.collate(rows, None), device)
        units += domain.count(batch)
        found.append(domain.outcomes(network, batch))
        mistakes.add(rows, found[-1])
    if not found:
        raise ValueError("there is nothing to score in this data")
    return Examination(joined(found), units, mistakes, _latency(domain, network, first, device))


def _at(outcomes: Outcomes, place: int) -> Outcomes:
    return {name: values[place : place + 1].copy() for name, values in outcomes.items()}


def _latency(
    domain: Domain, network: nn.Module, records: list[Columns], device: torch.device
) -> dict[str, float]:
    """Milliseconds of 200 single records in this process, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    try:
        for number in range(LATENCY_RECORDS + WARM_UP):
            record = records[number % len(records)]
            began = time.perf_counter()
            domain.outcomes(network, to_device(domain.collate(record, None), device))
            times.append((time.perf_counter() - began) * 1000)
    finally:
        torch.set_num_threads(threads)
    warm = times[WARM_UP:]
    return {"p50_ms": float(np.percentile(warm, 50)), "p99_ms": float(np.percentile(warm, 99))}
