"""Memory per device at each ZeRO stage, as arithmetic: no torch, no cluster.

Model states follow the ZeRO paper (Rajbhandari et al., arXiv 1910.02054, section 3): with Adam in
mixed precision 2 bytes of parameters, 2 of gradients and K = 12 of optimizer states (a float32
copy, momentum and variance) per parameter, sharded over N devices one after the other by stages
1, 2 and 3. What layers keep of activations was counted as autograd keeps it (tests/activations.py),
in the manner of Korthikanti et al., arXiv 2205.05198, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30
# Of a device's memory: the rest is the CUDA context and fragmentation.
USABLE_SHARE = 0.9
BUCKET_ELEMENTS = 50_000_000
MASKS, SCORES = 0.5, 3.4
"""What dropout keeps of a layer's two outputs, and of each head's scores where they are stored:
numbers for each unit of width, and for each pair of tokens."""
LIVE_ELEMENTS = 1_000_000_000
"""DeepSpeed's stage3_max_reuse_distance: parameters that are needed again so soon stay gathered."""


@dataclass(frozen=True)
class Estimate:
    """Bytes per device."""

    parameters: float
    gradients: float
    optimizer: float
    activations: float
    buffers: float = 0.0
    """What gradients travel in, what stage 3 gathers of the parameters, and the gradient of the
    logits."""

    @property
    def states(self) -> float:
        """The paper's model states."""
        return self.parameters + self.gradients + self.optimizer

    @property
    def total(self) -> float:
        """Everything."""
        return self.states + self.activations + self.buffers


@dataclass(frozen=True)
class Shape:
    """What memory and time depend on in a transformer, and about so in an LSTM.

    ``tokens`` are one micro-batch's, ``logits`` those computed for each of them.
    """

    parameters: int
    layers: int
    width: int
    heads: int
    context: int
    logits: int
    tokens: int
    flops: float = 0.0
    """Floating-point operations of training on one record, forward and backward."""
    kept: float = 17.0
    """Numbers that a layer keeps for the backward pass, for each token and unit of its width."""
    dropout: bool = False


@dataclass(frozen=True)
class Counted:
    """What they depend on in a network whose activations are counted layer by layer."""

    parameters: int
    values: int
    """Numbers that one micro-batch's activations hold until the backward pass."""
    flops: float = 0.0
    """As of `Shape`."""
    whole: int = 0
    """Parameters of the part that stage 3 gathers as one: its gradients, too, wait for each other.
    """


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


def bucket_elements(parameters: int, largest: int = 0) -> int:
    """Gradients that travel together: all of a small network's, and at least the largest matrix.

    DeepSpeed's own default of 5e8 would allocate gigabytes for a small model. Even, as it demands.
    """
    wanted = max(min(BUCKET_ELEMENTS, parameters), largest)
    return wanted + wanted % 2


def buffers(
    parameters: int, stage: int, devices: int, precision: str, overlaps: bool, whole: int = 0
) -> float:
    """Return bytes of DeepSpeed's buffers: a bucket of gradients, two where they travel during
    the backward pass, and at stage 3 the parameters that are gathered at a time and the gradients
    of those that are gathered as one."""
    width = 4 if precision == "fp32" else 2
    bucket = (2 if overlaps else 1) * bucket_elements(parameters) if stage >= 1 else 0
    gathered = min(LIVE_ELEMENTS, parameters) if stage >= 3 and devices > 1 else 0
    waiting = whole if stage >= 3 else 0
    return float(width * (bucket + gathered + waiting))


def logits_gradient(shape: Shape | Counted) -> float:
    """Return bytes of the first gradient of a backward pass, which comes on top of what is kept."""
    return 0.0 if isinstance(shape, Counted) else 4.0 * shape.tokens * shape.logits


def activations(
    shape: Shape | Counted, precision: str, checkpointing: bool, fused: bool = True
) -> float:
    """Return bytes of activations of one micro-batch: what autograd keeps for the backward pass.

    ``fused``: attention stores no scores, as on accelerators; on CPUs it does where it drops some.
    With checkpointing only each layer's input is kept, plus one layer in full. Logits are kept in
    float32 too, and so are their logarithms.
    """
    width = 4 if precision == "fp32" else 2
    if isinstance(shape, Counted):
        return float(width * shape.values)
    layer = width * shape.tokens * shape.width * shape.kept
    if shape.dropout:
        layer += width * shape.tokens * MASKS * shape.width
        if not fused:
            layer += width * shape.tokens * SCORES * shape.heads * shape.context
    kept = width * shape.tokens * shape.width * shape.layers + layer
    logits = (8 if precision == "fp32" else 10) * shape.tokens * shape.logits
    return (kept if checkpointing else layer * shape.layers) + logits


def estimate(
    shape: Shape | Counted,
    stage: int,
    devices: int,
    precision: str,
    offload: str = "none",
    checkpointing: bool = False,
    overlaps: bool = False,
) -> Estimate:
    """Return what one device holds at a stage; ``overlaps``: gradients travel in the backward
    pass, and attention is fused, as on accelerators."""
    states = model_states(shape.parameters, stage, devices, precision, offload)
    whole = shape.whole if isinstance(shape, Counted) else 0
    held = buffers(shape.parameters, stage, devices, precision, overlaps, whole)
    return Estimate(
        *states,
        activations(shape, precision, checkpointing, overlaps),
        held + logits_gradient(shape),
    )


def choose_stage(estimates: dict[int, Estimate], device_bytes: float, devices: int) -> int:
    """Return the lowest stage that fits: each further stage pays with communication.

    With one device sharding saves nothing: the lowest stage. Where nothing fits, 3: the plan warns.
    """
    if devices == 1:
        return min(estimates)
    fitting = [s for s in sorted(estimates) if estimates[s].total <= USABLE_SHARE * device_bytes]
    return fitting[0] if fitting else max(estimates)
