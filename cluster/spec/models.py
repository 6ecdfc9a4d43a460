"""One entry of ``models:``, and which models this version can train."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from cluster.spec.data import DataSpec
from cluster.spec.networks import NetworkSpec
from cluster.spec.section import Section, as_list
from cluster.spec.serving import PromoteSpec, ServeSpec
from cluster.spec.train import TrainSpec
from cluster.spec.tune import TuneSpec

AVAILABLE: dict[tuple[str, str], tuple[str, ...]] = {
    ("text", "generation"): ("gpt", "pretrained"),
    ("text", "masked-lm"): ("bert", "pretrained"),
    ("text", "classification"): ("bert", "lstm", "pretrained"),
    ("vision", "classification"): ("cnn", "resnet", "pretrained"),
    ("speech", "synthesis"): ("tacotron2",),
    ("speech", "recognition"): ("ctc", "pretrained"),
    ("recommendation", "next-item"): ("sasrec", "two-tower"),
    ("recommendation", "rating"): ("matrix-factorisation",),
}
"""What this version can train: domain and task to the networks it has for them, the first of
which is the default."""

TASKS: dict[str, tuple[str, ...]] = {
    "text": ("generation", "masked-lm", "classification"),
    "vision": ("classification",),
    "speech": ("synthesis", "recognition"),
    "recommendation": ("next-item", "rating"),
}
"""The tasks of every domain."""

_LANGUAGE = {"loss": "min", "perplexity": "min"}
_CLASSES = {"macro_f1": "max", "accuracy": "max", "loss": "min"}
METRICS: dict[tuple[str, str], dict[str, str]] = {
    ("text", "generation"): _LANGUAGE | {"bits_per_byte": "min", "nats_per_character": "min"},
    ("text", "masked-lm"): _LANGUAGE | {"accuracy": "max"},
    ("text", "classification"): _CLASSES | {"recall": "max"},
    ("vision", "classification"): {"accuracy": "max", "macro_f1": "max", "top_5": "max"}
    | {"loss": "min"},
    ("speech", "synthesis"): {"mel_loss": "min", "alignment": "max", "loss": "min"},
    ("speech", "recognition"): {"wer": "min", "cer": "min", "loss": "min"},
    ("recommendation", "next-item"): {"ndcg@10": "max", "hr@10": "max", "mrr": "max"}
    | {"coverage": "max", "loss": "min"},
    ("recommendation", "rating"): {"rmse": "min", "mae": "min", "loss": "min"},
}
"""The metrics of every task and which way is better; the first is the default."""

BUILTINS = ("python-docs", "python-source", "docstrings", "digits", "imports", "spoken")
"""Sources that need no download, as builtin:NAME."""

ROLES: dict[str, tuple[str, ...]] = {
    "text": ("text", "label"),
    "vision": ("image", "label"),
    "speech": ("audio", "text", "speaker"),
    "recommendation": ("user", "item", "rating", "time", "title", "genres"),
}
"""What a column can be to a domain."""

LATENCIES = {"p50_ms": "min", "p99_ms": "min"}
"""Measured by evaluate for every task; only the gate reads them."""


def _default_metric(known: dict[str, Any]) -> str:
    return next(iter(METRICS.get((known.get("domain", ""), known.get("task", "")), _LANGUAGE)))


def _default_network(known: dict[str, Any]) -> dict[str, str]:
    names = AVAILABLE.get((known.get("domain", ""), known.get("task", "")))
    return {"type": names[0] if names else "gpt"}


class ModelSpec(Section):
    """One model, from its data to its service."""

    domain: Literal["text", "vision", "speech", "recommendation"]
    """text, vision, speech or recommendation."""
    task: Literal[
        "generation",
        "masked-lm",
        "classification",
        "synthesis",
        "recognition",
        "next-item",
        "rating",
    ]
    """What the model does: for text generation, masked-lm or classification."""
    data: DataSpec
    """What it learns from."""
    network: NetworkSpec = Field(default_factory=_default_network, validate_default=True)
    """The network: a type and its sizes, or {pretrained: ...}; by default the first type that
    there is for the task."""
    metric: str = Field(default_factory=_default_metric)
    """What "best" means, on validation; by default loss for text generation."""
    train: TrainSpec = Field(default_factory=dict, validate_default=True)
    """How it is trained."""
    tune: TuneSpec | None = None
    """A search for better values of its keys."""
    promote: PromoteSpec | None = None
    """The gate that a version must pass to go live."""
    serve: ServeSpec | None = None
    """How it is served over HTTP; not at all by default."""
    tracking: Annotated[tuple[Literal["wandb", "mlflow"], ...], BeforeValidator(as_list)] = ()
    """Where numbers are sent besides storage: wandb, mlflow."""

    @model_validator(mode="after")
    def _no_test_part(self) -> Self:
        """Language models have no gate that reads a test part, unless the file says so."""
        split = self.data.split
        if self.task in ("generation", "masked-lm") and "test" not in split.model_fields_set:
            split = split.model_copy(update={"test": 0.0})
            # frozen to everybody else; a validator may not return another object
            self.__dict__["data"] = self.data.model_copy(update={"split": split})
        return self

    @property
    def direction(self) -> str:
        """Whether ``metric`` is better as ``min`` or as ``max``."""
        return METRICS[self.domain, self.task][self.metric]
