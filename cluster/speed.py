"""How long a training takes, from its operations and what its devices can do. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.memory import Counted, Shape

UTILISATION, CPU_UTILISATION = 0.4, 0.2
"""Share of a device's peak that a training reaches, as a rule: about what PaLM and Megatron-LM
report of accelerators (arXiv 2204.02311, 2205.05198), and half of that on CPUs."""


@dataclass(frozen=True)
class Speed:
    """Seconds that one optimizer step takes, and how that is known."""

    step_s: float
    how: str
    is_measured: bool


def computed(
    shape: Shape | Counted,
    global_batch: int,
    workers: int,
    peak: float,
    precision: str,
    recomputes: bool,
    utilisation: float = UTILISATION,
) -> float:
    """Seconds of a step on `workers` devices of `peak` operations a second in 16 bits.

    In fp32 an accelerator reaches half of it; what is computed again is a third more.
    """
    operations = shape.flops * global_batch * (4 / 3 if recomputes else 1.0)
    speed = peak * utilisation * (0.5 if precision == "fp32" else 1.0)
    return operations / (workers * speed)
