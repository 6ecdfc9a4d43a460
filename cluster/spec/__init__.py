"""The one YAML: read, merged, checked, frozen."""

from cluster.spec.capacity import (
    resolve_precision,
    share_of_cpus,
    usable_pools,
    worker_sizes,
    worker_slots,
)
from cluster.spec.clusters import ClusterSpec, Pool
from cluster.spec.condition import ConditionError, Expression, Verdict
from cluster.spec.data import DataSpec, Split, Tokenizer
from cluster.spec.document import Spec
from cluster.spec.grammar import Accelerator, Amount, Money, Range
from cluster.spec.loading import load, parse_model
from cluster.spec.models import AVAILABLE, METRICS, ModelSpec
from cluster.spec.networks import GPT, LSTM, Bert, NetworkSpec, Pretrained
from cluster.spec.problems import Problem, SpecError
from cluster.spec.providers import StorageSpec
from cluster.spec.references import ModelReference, Secret
from cluster.spec.space import with_values
from cluster.spec.train import AdamW, Checkpoint, Schedule, TrainSpec, Zero

__all__ = [
    "AVAILABLE",
    "GPT",
    "LSTM",
    "METRICS",
    "Accelerator",
    "AdamW",
    "Amount",
    "Bert",
    "Checkpoint",
    "ClusterSpec",
    "ConditionError",
    "DataSpec",
    "Expression",
    "ModelReference",
    "ModelSpec",
    "Money",
    "NetworkSpec",
    "Pool",
    "Pretrained",
    "Problem",
    "Range",
    "Schedule",
    "Secret",
    "Spec",
    "SpecError",
    "Split",
    "StorageSpec",
    "Tokenizer",
    "TrainSpec",
    "Verdict",
    "Zero",
    "load",
    "parse_model",
    "resolve_precision",
    "share_of_cpus",
    "usable_pools",
    "with_values",
    "worker_sizes",
    "worker_slots",
]
