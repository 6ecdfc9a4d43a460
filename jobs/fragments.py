"""What each worker holds of every parameter, whatever the ZeRO stage: where DeepSpeed keeps it.

A fragment is a span of a flattened parameter: its weight in fp32 and, where it is trained, Adam's
two moments. Checkpoints are made of fragments, so that they tie nobody to a number of workers, a
stage or a precision. DeepSpeed's own checkpoints would: universal ones fail from stage 2 to 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

WEIGHT = "weight"
MOMENTS = ("exp_avg", "exp_avg_sq")
SCALE = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")
"""What fp16's loss scaling remembers."""


@dataclass(frozen=True)
class Fragment:
    """Elements ``start`` to ``stop`` of the flattened parameter ``name``."""

    name: str
    start: int
    stop: int
    keys: tuple[str, ...]
    read: Callable[[str], Tensor]
    """The values under a key, [stop - start]; valid until the next call."""
    write: Callable[[str, Tensor], None]
    """Replace the values under a key."""
    replicated: bool
    """Whether every worker holds the same."""


def fragments_of(engine: Any) -> list[Fragment]:
    """What this worker holds of the parameters of a DeepSpeed engine."""
    optimizer = engine.optimizer
    _allot(optimizer)
    find = _masters(optimizer)
    return [
        fragment
        for name, parameter in engine.module.named_parameters()
        if (fragment := find(name, parameter)) is not None and fragment.start < fragment.stop
    ]


def refresh(engine: Any) -> None:
    """Make the weights that are computed with from those in fp32; collective."""
    optimizer = engine.optimizer
    if hasattr(optimizer, "fp32_partitioned_groups_flat"):
        optimizer.checkpoint_event_prologue()  # lets go of what is gathered
        for number in range(len(optimizer.fp32_partitioned_groups_flat)):
            optimizer._reassign_or_swap_out_partitioned_parameters(number)
        optimizer.checkpoint_event_epilogue()
    elif hasattr(optimizer, "update_lp_params"):
        optimizer.update_lp_params()
    elif hasattr(optimizer, "fp32_groups"):
        for low, high in _pairs(optimizer):
            low.data.copy_(high.data)


def memory_of(engine: Any) -> dict[str, Any]:
    """The rest of the optimizer's state: its count of steps, and fp16's loss scaling."""
    optimizer = engine.optimizer
    steps = [state["step"] for state in _base(optimizer).state.values() if "step" in state]
    scaler = getattr(optimizer, "loss_scaler", getattr(optimizer, "loss_scale_config", None))
    scale = {name: getattr(scaler, name) for name in SCALE if hasattr(scaler, name)}
    return {"steps": int(steps[0]) if steps else 0, "scale": scale}


def remember(engine: Any, memory: dict[str, Any]) -> None:
    """Put back what :func:`memory_of` gave, as far as this precision has it."""
    optimizer = engine.optimizer
    for state in _base(optimizer).state.values():
        if isinstance(state["step"], Tensor):
            state["step"].fill_(float(memory["steps"]))
        else:
            state["step"] = memory["steps"]
    scaler = getattr(optimizer, "loss_scaler", getattr(optimizer, "loss_scale_config", None))
    for name, value in memory["scale"].items():
        if memory["scale"].get("cur_scale") != 1.0 and hasattr(scaler, name):
            setattr(scaler, name, value)


def _base(optimizer: Any) -> Any:
    """The torch optimizer below ZeRO's."""
    return getattr(optimizer, "optimizer", optimizer)


def _flats(optimizer: Any) -> list[Tensor]:
    """The tensors that the torch optimizer steps: this worker's, in fp32."""
    for name in (
        "fp32_partitioned_groups_flat",  # stage 3
        "single_partition_of_fp32_groups",  # stages 1 and 2
        "fp32_groups_flat_partition",  # bf16 without ZeRO
    ):
        if hasattr(optimizer, name):
            return list(getattr(optimizer, name))
    return [p for group in _base(optimizer).param_groups for p in group["params"]]


def _allot(optimizer: Any) -> None:
    """Make the optimizer's state where it is not there yet: torch makes it in the first step."""
    base = _base(optimizer)
    counts_in_tensor = isinstance(base, torch.optim.AdamW)
    for flat in _flats(optimizer):
        if not base.state[flat]:
            step = torch.zeros((), dtype=torch.float32, device=flat.device)
            moments = {key: torch.zeros_like(flat.data) for key in MOMENTS}
            base.state[flat] = {"step": step if counts_in_tensor else 0, **moments}
    if hasattr(optimizer, "_lazy_init_hp_params_optimizer_state"):
        # DeepSpeed links all groups after its first step of the first one, when the state of the
        # others is not there yet.
        optimizer._hp_optimizer_states_linked = False
        optimizer._lazy_init_hp_params_optimizer_state()


def _masters(optimizer: Any) -> Callable[[str, nn.Parameter], Fragment | None]:
    if hasattr(optimizer, "fp32_partitioned_groups_flat"):
        return lambda name, parameter: _partitioned(optimizer, name, parameter)
    masters = {id(low): high for low, high in _pairs(optimizer)}
    state = _base(optimizer).state
    return lambda name, parameter: _held(state, masters, name, parameter)


def _pairs(optimizer: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """(parameter, its copy in fp32) in fp16 without ZeRO."""
    for low, high in zip(
        getattr(optimizer, "fp16_groups", ()), getattr(optimizer, "fp32_groups", ()), strict=False
    ):
        yield from zip(low, high, strict=True)


def _held(state: Any, masters: Any, name: str, parameter: nn.Parameter) -> Fragment | None:
    """Of stages 0 to 2, where spans are views."""
    if not parameter.requires_grad:
        return _views(name, 0, {WEIGHT: parameter.data.view(-1)}, replicated=True)
    if not hasattr(parameter, "_hp_mapping"):
        master = masters.get(id(parameter), parameter)
        tensors = {WEIGHT: master.data, **{key: state[master][key] for key in MOMENTS}}
        return _views(name, 0, {k: t.view(-1) for k, t in tensors.items()}, replicated=True)
    held = parameter._hp_mapping
    if held is None:  # another worker's
        return None
    tensors = {key: held.get_optim_state_fragment(key) for key in MOMENTS}
    start = held.lp_fragment_address.start
    return _views(name, start, {WEIGHT: held.hp_fragment.data, **tensors}, replicated=False)


def _views(name: str, start: int, tensors: dict[str, Tensor], replicated: bool) -> Fragment:
    def write(key: str, values: Tensor) -> None:
        tensors[key].copy_(values)

    stop = start + tensors[WEIGHT].numel()
    return Fragment(name, start, stop, tuple(tensors), tensors.__getitem__, write, replicated)


def _partitioned(optimizer: Any, name: str, parameter: Any) -> Fragment:
    """Of stage 3, which cuts each parameter into equal parts, the last one filled up."""
    size = parameter.partition_numel()
    start = min(size * torch.distributed.get_rank(), parameter.ds_numel)
    count = min(size, parameter.ds_numel - start)
    if not parameter.requires_grad:
        return _views(name, start, {WEIGHT: parameter.ds_tensor.data[:count]}, replicated=False)

    def read(key: str) -> Tensor:
        found: Tensor = optimizer.get_local_fp32_param(parameter, None if key == WEIGHT else key)
        return found[:count]

    def write(key: str, values: Tensor) -> None:
        filled = torch.zeros(size, dtype=torch.float32)
        filled[:count] = values
        optimizer.set_local_hp_param(filled, parameter, None if key == WEIGHT else key)

    return Fragment(name, start, start + count, (WEIGHT, *MOMENTS), read, write, replicated=False)
