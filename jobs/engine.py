"""The DeepSpeed engine: one configuration from the spec, and the few verbs the training loop needs.

Everything that touches DeepSpeed's own API stands here, so that the loop reads the same for every
ZeRO stage and a change of engine is a change of this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deepspeed
import numpy as np
import torch
import torch.distributed
from deepspeed.utils import set_z3_leaf_module
from torch import Tensor, nn

from cluster.memory import BUCKET_ELEMENTS, bucket_elements
from cluster.shapes import MOST_AUTO
from cluster.spec import TrainSpec
from jobs import state_files
from jobs.domains import Domain
from jobs.fragments import fragments_of, memory_of, refresh, remember
from jobs.linear import compute_as_torch, restore
from jobs.muon import load_uncompiled
from jobs.quiet import quiet
from jobs.state_files import BUFFERS, rank_file

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Layout:
    """How one optimizer step's batch is spread: ``global = micro x accumulation x world``."""

    global_batch: int
    micro_batch: int
    world_size: int

    @property
    def accumulation(self) -> int:
        """Micro-batches that each worker runs before one optimizer step."""
        return self.global_batch // (self.micro_batch * self.world_size)


def layout(train: TrainSpec, world_size: int, most: int = MOST_AUTO) -> Layout:
    """Spread the global batch over workers; ``auto`` takes the largest micro-batch up to ``most``.

    Raises ValueError where the workers cannot share the batch evenly.
    """
    if train.global_batch % world_size:
        raise ValueError(
            f"train.global_batch: {train.global_batch} cannot be shared by {world_size} workers; "
            f"choose a multiple of {world_size}"
        )
    share = train.global_batch // world_size
    if train.micro_batch != "auto":
        if share % train.micro_batch:
            raise ValueError(
                f"train.micro_batch: {train.micro_batch} does not divide the {share} rows that "
                f"each of {world_size} workers takes of global_batch {train.global_batch}"
            )
        return Layout(train.global_batch, train.micro_batch, world_size)
    micro = max(size for size in range(1, min(share, most) + 1) if share % size == 0)
    return Layout(train.global_batch, micro, world_size)


def engine_config(
    train: TrainSpec,
    stage: int,
    precision: str,
    batch: Layout,
    parameters: int = BUCKET_ELEMENTS,
    largest: int = 0,
) -> dict[str, Any]:
    """Return the DeepSpeed configuration of a run; a pure function.

    ``parameters`` of the network and of its ``largest`` matrix decide what travels at a time.
    """
    bucket = bucket_elements(parameters, largest)
    zero: dict[str, Any] = {
        "stage": stage,
        "contiguous_gradients": True,
        "overlap_comm": torch.cuda.is_available(),
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
    }
    if stage == 3:
        zero |= {"stage3_param_persistence_threshold": 10_000, "stage3_prefetch_bucket_size": 0}
    if train.zero.offload == "cpu":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if train.zero.offload == "nvme":
        zero["offload_optimizer"] = {"device": "nvme", "nvme_path": str(train.zero.nvme_path)}
    return {
        "train_batch_size": batch.global_batch,
        "train_micro_batch_size_per_gpu": batch.micro_batch,
        "gradient_accumulation_steps": batch.accumulation,
        "gradient_clipping": train.clip,
        "zero_optimization": zero,
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16"},
        "steps_per_print": 1_000_000_000,
        "wall_clock_breakdown": False,
    }


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split parameters for AdamW: matrices decay, biases and norms do not (GPT-3, section B)."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def set_seed(*key: int) -> None:
    """Seed torch from a key such as (seed, step, rank): resuming needs no stored RNG state."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0] >> np.uint64(1)))


def _unsaved_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Buffers that no state dict holds, such as rotary frequencies.

    They stay in their own precision, as they do where the exported bundle is loaded.
    """
    saved = set(network.state_dict())
    return {name: b.clone() for name, b in network.named_buffers() if name not in saved}


class Engine:
    """A network under DeepSpeed ZeRO: ``step``, ``save``, ``fill``, ``weights``."""

    def __init__(
        self,
        domain: Domain,
        train: TrainSpec,
        stage: int,
        precision: str,
        batch: Layout,
        config: dict[str, Any] | None = None,
    ) -> None:
        """Build the network from ``train.seed`` and shard it; collective over all workers."""
        quiet()
        compute_as_torch()
        load_uncompiled()
        set_seed(train.seed)
        network = domain.network()
        if train.activation_checkpointing:
            network.gradient_checkpointing_enable()  # type: ignore[operator]
        if train.compile:
            network.compile()
        self.domain, self.batch, self.stage, self.seed = domain, batch, stage, train.seed
        self.unreported, self._norm = stage == 0 and precision == "fp32", 0.0
        exact = _unsaved_buffers(network)
        for module in network.modules():
            if getattr(module, "is_whole", False):  # stage 3 gathers its weights at once
                set_z3_leaf_module(module, True)
        self.num_parameters = sum(p.numel() for p in network.parameters())
        sizes = self.num_parameters, max(p.numel() for p in network.parameters())
        self.engine, *_ = deepspeed.initialize(
            model=network,
            optimizer=self._optimizer(network.to(DTYPES[precision]), train),
            config=config or engine_config(train, stage, precision, batch, *sizes),
        )
        for name, buffer in exact.items():
            network.get_buffer(name).data = buffer.to(self.device)
        self.rank = int(self.engine.global_rank)

    @staticmethod
    def _optimizer(network: nn.Module, train: TrainSpec) -> torch.optim.Optimizer:
        options = train.optimizer
        arguments: dict[str, Any] = {"lr": options.lr, "betas": options.betas, "eps": options.eps}
        groups = decay_groups(network, options.weight_decay)
        if train.zero.offload != "none":
            from deepspeed.ops.adam import DeepSpeedCPUAdam

            return DeepSpeedCPUAdam(groups, adamw_mode=True, **arguments)  # type: ignore[no-any-return]
        return torch.optim.AdamW(groups, fused=True, **arguments)

    @property
    def device(self) -> torch.device:
        """Where batches belong."""
        return torch.device(self.engine.device)

    @property
    def network(self) -> nn.Module:
        """The network in training; at stage 3 its parameters are shards outside ``forward``."""
        return self.engine  # type: ignore[no-any-return]

    def forward(self, batch: dict[str, Tensor], step: int, micro: int) -> Tensor:
        """Return one micro-batch's mean loss; dropout follows (seed, step, rank, micro)."""
        set_seed(self.seed, step, self.rank, micro)
        return self.domain.loss(self.engine, batch)

    def backward(self, loss: Tensor) -> None:
        """Add one micro-batch's gradients."""
        self.engine.backward(loss)

    def step(self) -> None:
        """Step the optimizer after the last micro-batch; a no-op before it."""
        # At stage 0 in fp32 DeepSpeed clips torch's own optimizer and keeps no norm.
        if self.unreported and self.engine.is_gradient_accumulation_boundary():
            gradients = [p.grad for p in self.engine.module.parameters() if p.grad is not None]
            self._norm = float(nn.utils.get_total_norm(gradients))
        self.engine.step()

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the coming step."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr

    def gradient_norm(self) -> float:
        """Norm of the last step's gradients over all workers, before clipping."""
        return self._norm if self.unreported else float(self.engine.get_global_grad_norm())

    def share_buffers(self) -> None:
        """Average what layers have counted by themselves, such as batch norm's statistics.

        Each worker has seen other records. Before every validation and save, so that what is
        scored, saved and exported is one network; collective.
        """
        if self.batch.world_size == 1:
            return
        saved = set(self.engine.module.state_dict())
        for name, buffer in self.engine.module.named_buffers():
            if name in saved and buffer.is_floating_point():
                torch.distributed.all_reduce(buffer)
                buffer /= self.batch.world_size

    def save(self, folder: Path) -> dict[str, Any]:
        """Write this worker's files of a checkpoint; the rest of the state, the same on all."""
        rank, world_size = self.rank, self.batch.world_size
        state_files.write_fragments(
            folder / rank_file(rank), fragments_of(self.engine), rank, world_size
        )
        if rank == 0:
            state_files.write_buffers(folder / BUFFERS, self.engine.module)
        return memory_of(self.engine)

    def gather(self, names: Sequence[str], fetch: Callable[[str], Path]) -> list[Path]:
        """Fetch what this worker needs of a checkpoint's files: its own, or, saved otherwise, all.

        Another number of workers, ZeRO stage or precision has spread the same state in another way.
        """
        own, held = rank_file(self.rank), fragments_of(self.engine)
        paths = [fetch(name) for name in names if name in (own, BUFFERS)]
        if paths and paths[-1].name == own and state_files.covers(paths[-1], held):
            return paths
        return paths + [fetch(name) for name in names if name not in (own, BUFFERS)]

    def fill(self, paths: Sequence[Path], memory: dict[str, Any]) -> None:
        """Take the state from files that :meth:`gather` gave, and what :meth:`save` returned.

        The optimizer's settings stay those of this run: a trial may go on from another's state.
        """
        shards = [path for path in paths if path.name != BUFFERS]
        state_files.read_fragments(shards, fragments_of(self.engine))
        for path in paths:
            if path.name == BUFFERS:
                state_files.read_buffers(path, self.engine.module)
        remember(self.engine, memory)

    def refresh(self) -> None:
        """Compute with the weights that :meth:`fill` brought; collective."""
        refresh(self.engine)

    def weights(self) -> dict[str, Tensor] | None:
        """Gather the full weights on rank 0's CPU (None elsewhere), one parameter at a time.

        Tied weights appear under each of their names, sharing storage, as in ``state_dict()``.
        """
        gathered: dict[int, Tensor] = {}
        state: dict[str, Tensor] = {}
        for name, tensor in self._tensors():
            with deepspeed.zero.GatheredParameters([tensor], enabled=self.stage == 3):
                if self.rank == 0:
                    if id(tensor) not in gathered:
                        gathered[id(tensor)] = tensor.detach().to("cpu", copy=True).contiguous()
                    state[name] = gathered[id(tensor)]
        return state if self.rank == 0 else None

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        module: nn.Module = self.engine.module
        yield from module.named_parameters(remove_duplicate=False)
        persistent = set(module.state_dict().keys())
        for name, buffer in module.named_buffers(remove_duplicate=False):
            if name in persistent:
                yield name, buffer

    def close(self) -> None:
        """Free hooks and buffers, so that another engine can be built in the same process."""
        self.engine.destroy()
        restore()
