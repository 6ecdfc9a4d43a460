"""Memory per device at each ZeRO stage, as arithmetic: no torch, no cluster.

Model states follow the ZeRO paper (Rajbhandari et al., arXiv 1910.02054, section 3): with Adam in
mixed precision 2 bytes of parameters, 2 of gradients and K = 12 of optimizer states (a float32
copy, momentum and variance) per parameter, sharded over N devices one after the other by stages
1, 2 and 3. Activations follow Korthikanti et al., arXiv 2205.05198, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30
# Of a device's memory: the rest is the CUDA context, fragmentation and communication buffers.
USABLE_SHARE = 0.9


@dataclass(frozen=True)
class Estimate:
    """Bytes per device."""

    parameters: float
    gradients: float
    optimizer: float
    activations: float

    @property
    def states(self) -> float:
        """The paper's model states."""
        return self.parameters + self.gradients + self.optimizer

    @property
    def total(self) -> float:
        """States and activations."""
        return self.states + self.activations


@dataclass(frozen=True)
class Shape:
    """What memory depends on in a transformer, and about so in an LSTM.

    ``tokens`` are one micro-batch's, ``logits`` those computed for each of them.
    """

    parameters: int
    layers: int
    width: int
    heads: int
    context: int
    logits: int
    tokens: int


@dataclass(frozen=True)
class PictureShape:
    """What memory depends on in a network for pictures."""

    parameters: int
    values: int
    """Numbers that one micro-batch's activations hold until the backward pass."""


def model_states(
    parameters: float, stage: int, devices: int, precision: str, offload: str = "none"
) -> tuple[float, float, float]:
    """Return (parameters, gradients, optimizer) in bytes per device, table 1 of the ZeRO paper.

    In fp32 there is no second copy: 4 bytes of parameters, 4 of gradients, 8 of Adam's moments;
    DeepSpeed keeps a separate float32 copy of its shard from stage 1 on, which is counted as the
    optimizer's. Offloaded optimizer states take nothing of the device.
    """
    width = 4 if precision == "fp32" else 2
    copy = 4 if precision != "fp32" or stage > 0 else 0
    optimizer = (8 + copy) * parameters / (devices if stage >= 1 else 1)
    return (
        width * parameters / (devices if stage >= 3 else 1),
        width * parameters / (devices if stage >= 2 else 1),
        0.0 if offload != "none" else optimizer,
    )


def activations(shape: Shape | PictureShape, precision: str, checkpointing: bool) -> float:
    """Return bytes of activations of one micro-batch with attention that stores no scores.

    Per layer 34 bytes per token and width in 16 bits (double in 32), or with checkpointing only
    each layer's input plus one layer in full; plus logits, their float32 copy and its gradient.
    """
    scale = 2 if precision == "fp32" else 1
    if isinstance(shape, PictureShape):
        return 2.0 * scale * shape.values
    layer = 34 * scale * shape.tokens * shape.width
    kept = 2 * scale * shape.tokens * shape.width * shape.layers + layer
    logits = (2 * scale + 8) * shape.tokens * shape.logits
    return (kept if checkpointing else layer * shape.layers) + logits


def estimate(
    shape: Shape | PictureShape,
    stage: int,
    devices: int,
    precision: str,
    offload: str = "none",
    checkpointing: bool = False,
) -> Estimate:
    """Return what one device holds at a stage."""
    states = model_states(shape.parameters, stage, devices, precision, offload)
    return Estimate(*states, activations(shape, precision, checkpointing))


def choose_stage(estimates: dict[int, Estimate], device_bytes: float, devices: int) -> int:
    """Return the lowest stage that fits: each further stage pays with communication.

    With one device sharding saves nothing: the lowest stage. Where nothing fits, 3: the plan warns.
    """
    if devices == 1:
        return min(estimates)
    fitting = [s for s in sorted(estimates) if estimates[s].total <= USABLE_SHARE * device_bytes]
    return fitting[0] if fitting else max(estimates)
