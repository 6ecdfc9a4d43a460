"""The section ``train:`` of a model."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema

from cluster.spec.clusters import at_least_one
from cluster.spec.grammar import Amount, Range, Seconds, Share
from cluster.spec.references import Name
from cluster.spec.section import Bool, Count, Int, NotNegative, Positive, Section

PLACEMENT = frozenset(
    {
        "workers",
        "cpus_per_worker",
        "accelerator_share",
        "pool",
        "zero",
        "checkpoint",
        "stall",
        "restarts",
        "on_nan",
        "activation_checkpointing",
        "compile",
        "micro_batch",
    }
)
"""Keys of ``train:`` that say where and how to run, not what comes out."""

Momentum = Annotated[float, Field(strict=True, ge=0, lt=1)]


def _from_one(value: Range) -> Range:
    if value.min < 1:
        raise ValueError("must begin at 1 at least")
    return value


def _some(value: Amount) -> Amount:
    if value.value == 0:
        raise ValueError("must be more than 0")
    return value


def _some_share(value: float) -> float:
    if value == 0:
        raise ValueError("must be more than 0%")
    return value


def _count_or_auto(value: object) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError("must be auto or a whole number of at least 1")


def _number_or_auto(value: object) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "auto" or (number and value > 0):  # type: ignore[operator]
        return value
    raise ValueError("must be auto or a number above 0")


SomeAmount = Annotated[Amount, AfterValidator(_some)]
Workers = Annotated[Range, AfterValidator(at_least_one), AfterValidator(_from_one)]


class AdamW(Section):
    """Adam with decoupled weight decay (arXiv:1711.05101)."""

    short = "type"

    type: Literal["adamw"] = "adamw"
    """AdamW."""
    lr: Positive = 3e-4
    """Peak learning rate."""
    weight_decay: NotNegative = 0.01
    """Decay of matrices; biases, norms and embeddings of positions are left alone."""
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    """Averaging of the gradient and of its square."""
    eps: Positive = 1e-8
    """Added to the root of the averaged square."""


class Schedule(Section):
    """How the learning rate moves over the run."""

    short = "type"

    type: Literal["cosine", "linear", "constant"] = "cosine"
    """cosine or linear decay, or constant."""
    warmup: Amount = Amount(0.0, "steps")
    """How long the learning rate rises to its peak."""
    final: Share = 0.1
    """Share of the peak that is left at the end; constant keeps all."""


class Zero(Section):
    """How DeepSpeed's ZeRO divides the training state over workers (arXiv:1910.02054)."""

    stage: Literal["auto", 0, 1, 2, 3] = "auto"
    """0 divides nothing, 1 the optimizer, 2 gradients too, 3 parameters too; auto takes the
    lowest that fits."""
    offload: Literal["none", "cpu", "nvme"] = "none"
    """Where the optimizer's state is kept: the device, the host's memory, or its disk."""
    nvme_path: Annotated[str, Field(pattern="^/")] | None = None
    """Folder on the nodes' disk for offload nvme."""


class Checkpoint(Section):
    """When the training state is saved, and how many are kept."""

    every: SomeAmount = Amount(500.0, "steps")
    """How often one is saved."""
    keep: Count = 3
    """How many of the newest are kept, besides the best."""


class Validate(Section):
    """When the validation part is scored."""

    short = None

    every: SomeAmount
    """How often; as often as checkpoints by default."""


class Augment(Section):
    """How pictures and recordings are varied in training, anew in every epoch."""

    crop: Share = 0.12
    """Pictures are moved by up to this share of their side; 0% leaves them in place."""
    flip: Bool = False
    """Whether half of them are mirrored, left to right."""
    erase: Share = 0.0
    """Share of the pictures in which a random rectangle is greyed out (arXiv:1708.04896)."""
    speed: Share = 0.1
    """Recordings are played faster or slower by up to this share, and higher or lower with it."""
    warp: Share = 0.1
    """The frequencies of a spectrogram move up or down by up to this share, for other voices."""
    noise: Share = 0.3
    """Share of the recordings that get noise, 8 to 40 dB below them."""
    mask: Share = 0.2
    """Up to two bands and two spans of a spectrogram are hidden, each up to this share of it
    (arXiv:1904.08779)."""


class TrainSpec(Section):
    """How a model is trained."""

    steps: Count | None = None
    """Steps of the optimizer, in place of epochs."""
    epochs: Positive | None = Field(
        default_factory=lambda known: None if known.get("steps") else 3.0
    )
    """Passes over the data; 3 by default where steps are not given."""
    global_batch: Count = 32
    """Records in a step, over all workers."""
    micro_batch: Annotated[
        Literal["auto"] | int,
        PlainValidator(_count_or_auto),
        WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
    ] = "auto"
    """Records that a worker computes at once; the rest of a step is accumulated."""
    optimizer: AdamW = AdamW()
    """The optimizer."""
    clip: NotNegative = 1.0
    """Largest norm of the gradient; 0 is no bound."""
    schedule: Schedule = Schedule()
    """How the learning rate moves."""
    zero: Zero = Zero()
    """How the training state is divided over the workers."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of the computation; auto is bf16 where the pool has accelerators, else fp32."""
    workers: Workers = Range(1, 1)
    """Training processes; a range is elastic: the most that fit, of those that divide
    global_batch. A run goes on with any number."""
    cpus_per_worker: Annotated[
        Literal["auto"] | int | float,
        PlainValidator(_number_or_auto),
        WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "number", "exclusiveMinimum": 0}]}),
    ] = "auto"
    """CPUs of each worker; auto shares out those that the cluster has."""
    accelerator_share: Annotated[Share, AfterValidator(_some_share)] = 1.0
    """Share of an accelerator that a worker takes; below 100% trials of one worker share it."""
    pool: Name | None = None
    """The pool that workers run in; any by default."""
    label_smoothing: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.0
    """Share of each label that is spread over all classes, for classification."""
    augment: Augment = Augment()
    """How pictures and recordings are varied in training."""
    patience: Count | None = None
    """Validations without a better metric at which training ends; no bound by default."""
    stall: Seconds = 600.0
    """Time without a step at which the workers' stacks are logged and they are restarted."""
    restarts: Annotated[int, Field(strict=True, ge=0)] = 3
    """How often failed workers are restarted without a new checkpoint in between."""
    on_nan: Literal["stop", "rewind"] = "stop"
    """What follows a loss that is no number or explodes: the run stops, or goes back to its last
    checkpoint, up to three times, and leaves out the data that it took since."""
    seed: Int = 0
    """Seed of the weights, the order of records and dropout."""
    activation_checkpointing: Bool = False
    """Compute activations again in the backward pass, for memory."""
    compile: Bool = False
    """Run the network through torch.compile."""
    checkpoint: Checkpoint = Checkpoint()
    """When the training state is saved."""
    validation: Validate = Field(
        alias="validate", default_factory=lambda known: every_checkpoint(known)
    )
    """When the validation part is scored."""


def every_checkpoint(known: dict[str, Any]) -> Validate:
    """Validation as often as checkpoints, where the section does not say."""
    checkpoint = known.get("checkpoint", Checkpoint())
    return Validate(every=checkpoint.every)
