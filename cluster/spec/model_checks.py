"""Combinations within a model, and of a model with its cluster, that cannot work."""

import codecs
from collections.abc import Callable, Iterator

from cluster.spec.capacity import has_accelerators, usable_pools, worker_sizes, worker_slots
from cluster.spec.document import Spec
from cluster.spec.models import AVAILABLE, BUILTINS, LATENCIES, METRICS, ROLES, TASKS, ModelSpec
from cluster.spec.networks import CTC, GPT, Bert, Pretrained, Tacotron2
from cluster.spec.problems import did_you_mean
from cluster.spec.providers import Local, RayAddress
from cluster.spec.references import ModelReference, is_uri
from cluster.spec.translate import Finding
from cluster.spec.tune_checks import check_sweep

Findings = Iterator[Finding]


def _available(_: Spec, __: str, model: ModelSpec) -> Findings:
    yield from available(model)


def available(model: ModelSpec) -> Findings:
    """What of a model this version cannot train."""
    tasks = TASKS[model.domain]
    if model.task not in tasks:
        hint = did_you_mean(model.task, tasks)
        yield f'"{model.task}" is no task of domain {model.domain}{hint}', ("task",)
        return
    networks = AVAILABLE.get((model.domain, model.task))
    if networks is None:
        known = ", ".join(" ".join(pair) for pair in AVAILABLE)
        message = f"{model.domain} {model.task} is not available in this version"
        yield f"{message}; available: {known}", ("task",)
        return
    kind = getattr(model.network, "type", "pretrained")
    if kind not in networks:
        message = f"network {kind} is not available for {model.domain} {model.task}"
        yield f"{message}; available: {', '.join(networks)}", ("network",)
    metrics = METRICS[model.domain, model.task]
    if model.metric not in metrics:
        yield f'unknown metric "{model.metric}"' + did_you_mean(model.metric, metrics), ("metric",)


def _data(_: Spec, __: str, model: ModelSpec) -> Findings:
    data = model.data
    for at, source in enumerate(data.source):
        name = source.removeprefix("builtin:")
        if name != source and name not in BUILTINS:
            yield (
                f'no built-in data "{name}"' + did_you_mean(name, BUILTINS),
                ("data", "source", at),
            )
    for role in data.columns:
        if role not in ROLES[model.domain]:
            hint = did_you_mean(role, ROLES[model.domain])
            yield f'"{role}" is no role of domain {model.domain}{hint}', ("data", "columns", role)
    if data.encoding != "auto" and not _is_encoding(data.encoding):
        yield f'unknown encoding "{data.encoding}"', ("data", "encoding")
    if model.task == "generation" and data.tokenizer.type == "wordpiece":
        message = "wordpiece cannot write text back; use bpe or character"
        yield message, ("data", "tokenizer", "type")
    if isinstance(model.network, Pretrained) and "tokenizer" in data.model_fields_set:
        yield "a pretrained network brings its own tokenizer; leave this out", ("data", "tokenizer")


def _is_encoding(name: str) -> bool:
    try:
        return codecs.lookup(name)._is_text_encoding
    except LookupError:
        return False


def _split(_: Spec, __: str, model: ModelSpec) -> Findings:
    split = model.data.split
    shares = [part for part in (split.validation, split.test) if isinstance(part, float)]
    if sum(shares) >= 1:
        yield "validation and test leave nothing to train on", ("data", "split")
    if split.by is not None and split.time is not None:
        yield "by and time are both given; keep one", ("data", "split", "time")
    if split.validation == 0 and model.train.patience:
        yield (
            "patience needs a validation part, and data.split.validation is 0%",
            (
                "train",
                "patience",
            ),
        )


def _network(spec: Spec, name: str, model: ModelSpec) -> Findings:
    network = model.network
    if isinstance(network, GPT | Bert | CTC) and network.width % network.heads:
        message = f"{network.width} cannot be shared by {network.heads} heads"
        yield f"{message}; use a multiple of {network.heads}", ("network", "width")
    if isinstance(network, Tacotron2) and network.width % 2:
        message = f"{network.width} cannot be shared by two directions; use an even number"
        yield message, ("network", "width")
    if isinstance(network, GPT):
        yield from _gpt(network)
    if isinstance(network, Pretrained):
        yield from _pretrained(spec, name, network.pretrained)


def _gpt(network: GPT) -> Findings:
    path = ("network", "kv_heads")
    if network.kv_heads and network.style != "llama":
        yield f"kv_heads is for style llama, not {network.style}", path
    elif network.kv_heads and network.heads % network.kv_heads:
        yield f"{network.heads} heads cannot be shared by {network.kv_heads} kv_heads", path
    if network.style == "llama" and network.width // network.heads % 2:
        size = network.width // network.heads
        yield f"rotary positions need an even size per head, not {size}", ("network", "width")


def _pretrained(spec: Spec, name: str, text: str) -> Findings:
    path = ("network", "pretrained")
    if is_uri(text) or text.startswith("/"):
        return
    try:
        reference = ModelReference.parse(text)
    except ValueError:
        yield f'"{text}" is neither hf://OWNER/NAME, ./FOLDER, a URI nor a model', path
        return
    if reference.name not in spec.models:
        others = [other for other in spec.models if other != name]
        hint = did_you_mean(reference.name, others)
        yield f'no model "{reference.name}"{hint}; a folder begins with ./', path
    elif reference.name == name and reference.version is None:
        yield f"the model cannot begin from itself; name a version: {name}@1", path


def _length(_: Spec, __: str, model: ModelSpec) -> Findings:
    train, warmup = model.train, model.train.schedule.warmup
    if train.steps and train.epochs:
        yield "epochs and steps are both given; keep one", ("train", "steps")
    length = {"steps": train.steps, "epochs": train.epochs, "share": 1}[warmup.unit]
    if length is not None and warmup.value > length:
        run = f"{length:g} {warmup.unit}" if warmup.unit != "share" else "100%"
        message = f"a warm-up of {warmup} is longer than the run of {run}"
        yield message, ("train", "schedule", "warmup")


def _batch(_: Spec, __: str, model: ModelSpec) -> Findings:
    train = model.train
    if worker_sizes(train):
        return
    workers = f"{train.workers} worker" + ("s" if train.workers.max > 1 else "")
    micro = "" if train.micro_batch == "auto" else f" in micro batches of {train.micro_batch}"
    message = f"{train.global_batch} records cannot be shared evenly by {workers}{micro}"
    unit = train.workers.min * (1 if train.micro_batch == "auto" else train.micro_batch)
    near = max(1, round(train.global_batch / unit)) * unit
    yield f"{message}; {near} could", ("train", "global_batch")


def _room(spec: Spec, _: str, model: ModelSpec) -> Findings:
    train, pools = model.train, [pool.name for pool in spec.cluster.pools]
    for section, pool in (("train", train.pool), ("serve", model.serve and model.serve.pool)):
        if pool and pool not in pools:
            hint = did_you_mean(pool, pools) or "; the cluster has no pools"
            yield f'no pool "{pool}"{hint}', (section, "pool")
    slots = worker_slots(spec.cluster, train)
    if slots is None or slots >= train.workers.min or (train.pool and train.pool not in pools):
        return
    remedy = "use fewer workers or raise nodes of cluster.pools"
    if not pools and isinstance(spec.cluster.provider, Local):
        remedy = "use fewer workers, or declare the CPUs to use as cluster.head.cpus"
    elif not pools:
        remedy = "add cluster.pools"
    count = "1 worker" if train.workers.min == 1 else f"{train.workers.min} workers"
    message = f"{count}, but the cluster has room for {slots} at most"
    yield f"{message}; {remedy}", ("train", "workers")


def _zero(spec: Spec, _: str, model: ModelSpec) -> Findings:
    zero, path = model.train.zero, ("train", "zero")
    stages = model.network.zero_stages
    if zero.stage != "auto" and zero.stage not in stages:
        kind = getattr(model.network, "type", "this network")
        known = ", ".join(str(stage) for stage in stages)
        yield f"{kind} cannot train at ZeRO stage {zero.stage}; allowed: {known}", (*path, "stage")
    if zero.offload != "none" and zero.stage == 0:
        yield "offload needs ZeRO stage 1 or higher", (*path, "offload")
    if zero.offload == "nvme" and zero.stage not in ("auto", 3):
        yield "offload nvme needs ZeRO stage 3", (*path, "offload")
    if zero.offload == "nvme" and not zero.nvme_path:
        yield "offload nvme needs nvme_path, a folder on the nodes' disk", (*path, "nvme_path")


def _accelerated(spec: Spec, _: str, model: ModelSpec) -> Findings:
    train = model.train
    pools = usable_pools(spec.cluster, train)
    if train.accelerator_share < 1 and train.workers.max > 1:
        message = "several workers of one training need an accelerator each; use 100%"
        yield message, ("train", "accelerator_share")
    unknown = isinstance(spec.cluster.provider, RayAddress) and not spec.cluster.pools
    if unknown or has_accelerators(pools):
        return
    remedy = "name a pool with accelerators, such as {name: gpu, accelerators: [H100:1]}"
    if train.precision == "fp16":
        message = f"fp16 needs a GPU; use bf16 or fp32, or {remedy}"
        yield message, ("train", "precision")
    if train.accelerator_share < 1:
        message = f"there is no accelerator to share; leave it out, or {remedy}"
        yield message, ("train", "accelerator_share")
    if train.zero.offload == "nvme":
        yield (
            f"offload nvme needs a GPU; use cpu or none, or {remedy}",
            ("train", "zero", "offload"),
        )


def _gate(_: Spec, __: str, model: ModelSpec) -> Findings:
    if model.promote is None or model.promote.condition is None:
        return
    path = ("promote", "if")
    metrics = METRICS.get((model.domain, model.task), {})
    traffic = model.serve.traffic if model.serve else {}
    aliases = dict.fromkeys(("production", model.promote.to, *traffic))
    for name in dict.fromkeys(model.promote.condition.names()):
        if metrics and name.name not in metrics and name.name not in LATENCIES:
            yield f'unknown metric "{name.name}"' + _near(name.name, metrics | LATENCIES), path
        if name.alias and name.alias not in aliases:
            yield f'unknown alias "{name.alias}"' + _near(name.alias, aliases), path
    read = [name for name in model.promote.condition.names() if name.name in metrics]
    if read and model.data.split.test == 0:
        yield "the gate reads the test part, and data.split.test is 0%; set it, such as 10%", path


_near = did_you_mean


def _traffic(_: Spec, __: str, model: ModelSpec) -> Findings:
    if model.serve and abs(sum(model.serve.traffic.values()) - 1) > 1e-6:
        total = sum(model.serve.traffic.values())
        yield f"the shares are {total * 100:g}% together, not 100%", ("serve", "traffic")


MODEL_CHECKS: tuple[Callable[[Spec, str, ModelSpec], Findings], ...] = (
    _available,
    _data,
    _split,
    _network,
    check_sweep,
    _length,
    _batch,
    _room,
    _zero,
    _accelerated,
    _gate,
    _traffic,
)
