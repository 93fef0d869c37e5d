"""Networks that no device holds together with their training: each process keeps a shard of every parameter (FSDP2).

Source: torch.distributed.fsdp.fully_shard; Zhao et al., "PyTorch FSDP", arXiv 2304.11277.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor, nn, optim
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from semikit.core.batch_norm import has_batch_norm
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.distributed.collectives import process_count
from semikit.errors import ConfigError

_CALLED = ("forward_with_tap",)
"""What encoders call of a block beside its forward."""


@final
class Sharding:
    """A method whose parameters, their gradients and the optimiser's state are shared out over the processes.

    Parameters are gathered where they are used and freed at once: the encoder's blocks one by one, every other part of
    a network that is called as a whole. Gradients come averaged over the processes, as in DistributedDataParallel.
    Buffers (running statistics, thresholds, banks) stay whole and each process's own. Every process has to make the
    same calls in the same order; those that gather say so.

    With the precision bf16 a block's parameters are gathered in bf16, half the bytes, and so is what it computes; the
    shards, which the optimiser and the teacher's average change, stay fp32. Blocks with batch norm, whose running
    statistics are fp32, and all other parts are gathered in fp32 and leave the types to autocast. Gradients are summed
    over the processes in `reduce_dtype`, fp32 or bf16.

    It is made before the optimiser, which gets its shards by `hand_to`.
    """

    def __init__(self, method: Method, device: torch.device, precision: str, reduce_dtype: str) -> None:
        check_sharding(process_count())
        self.method = method
        self.device = device
        self.pairs: list[tuple[nn.Parameter, nn.Parameter]] = []
        self._strides = {name: parameter.stride() for name, parameter in method.named_parameters()}
        # Said of encoders, whose levels are views; nobody writes into levels.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        self._plain = {network: deepcopy(network).to("meta") for network in (*method.students, method.teacher)}
        mesh = init_device_mesh(device.type, (process_count(),))
        summed = torch.bfloat16 if reduce_dtype == "bf16" else torch.float32
        policy = MixedPrecisionPolicy(reduce_dtype=summed)
        half = replace(policy, param_dtype=torch.bfloat16) if precision == "bf16" else policy
        for network in self._plain:
            for block in network.blocks():
                for name in _CALLED:
                    if hasattr(block, name):
                        register_fsdp_forward_method(block, name)
                own = policy if has_batch_norm(block) else half
                fully_shard(_stored_in_rows(block), mesh=mesh, reshard_after_forward=True, mp_policy=own)
        for part in _parts(method):
            fully_shard(_stored_in_rows(part), mesh=mesh, reshard_after_forward=True, mp_policy=policy)
        whole = [name for name, parameter in method.named_parameters() if not isinstance(parameter, DTensor)]
        assert not whole, whole

    def hand_to(self, optimizer: optim.Optimizer) -> None:
        """Let an optimiser, new and not yet used, learn this process's shards as ordinary tensors.

        Its fused kernels and their masked step take them where they do not take torch's sharded tensors.
        """
        for group in optimizer.param_groups:
            for place, parameter in enumerate(group["params"]):
                shard = nn.Parameter(_own(parameter), requires_grad=parameter.requires_grad)
                state = optimizer.state.pop(parameter, None)
                if state is not None:
                    optimizer.state[shard] = {key: _own(value) for key, value in state.items()}
                group["params"][place] = shard
                self.pairs.append((parameter, shard))

    def take_gradients(self) -> None:
        """Give the optimiser its shards of the gradients, after the last backward pass of a step."""
        for parameter, shard in self.pairs:
            shard.grad = None if parameter.grad is None else _own(parameter.grad)
            parameter.grad = None

    @contextmanager
    def whole(self, networks: Mapping[str, Network]) -> Iterator[dict[str, Network]]:
        """Ordinary copies of networks, in eval mode, which each process may use as often as it likes. Gathers.

        They need as much memory as the networks do without gradients, and are given up when the block ends.
        """
        copies = {network: self._copy(network) for network in dict.fromkeys(networks.values())}
        yield {name: copies[network] for name, network in networks.items()}

    @torch.no_grad()
    def _copy(self, network: Network) -> Network:
        copied = deepcopy(self._plain[network]).to_empty(device=self.device)
        for new, old in zip(copied.parameters(), network.parameters(), strict=True):
            new.copy_(_full(old))
        for copy, buffer in zip(copied.buffers(), network.buffers(), strict=True):
            copy.copy_(buffer)
        return copied.eval()

    def state(self, optimizer: optim.Optimizer) -> dict[str, Any]:
        """What `method.state_dict()` and `optimizer.state_dict()` would be without sharding, as `method` and
        `optimizer`, on the CPU in the first process; empty in all others. Gathers, one tensor at a time.
        """
        first = dist.get_rank() == 0
        strides = {parameter: self._strides[name] for name, parameter in self.method.named_parameters()}
        method = {
            name: _gathered(value, self._strides.get(name), first) for name, value in self.method.state_dict().items()
        }
        packed = optimizer.state_dict()
        for number, values in packed["state"].items():
            like = self.pairs[number][0]
            packed["state"][number] = {
                key: _gathered(_joined(value, like), strides[like], first) for key, value in values.items()
            }
        return {"method": method, "optimizer": packed} if first else {}

    def load(self, optimizer: optim.Optimizer, state: Mapping[str, Any]) -> None:
        """Go on from `method` and `optimizer` of a state, of a run with or without sharding and with any number of
        processes. Each process reads the whole state and keeps its shards.
        """
        there = self.method.state_dict()
        found = {name: self._shard(value, there.get(name)) for name, value in state["method"].items()}
        self.method.load_state_dict(found)
        packed = dict(state["optimizer"])
        packed["state"] = {
            number: {key: self._own_rows(value, self.pairs[number][0]) for key, value in values.items()}
            for number, values in packed["state"].items()
        }
        optimizer.load_state_dict(packed)

    def _shard(self, value: Any, like: Any) -> Any:
        if not isinstance(like, DTensor):
            return value
        value = value.to(self.device).contiguous()
        return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)

    def _own_rows(self, value: Any, like: Any) -> Any:
        """Of a tensor of the optimiser that is as large as its parameter this process's shard."""
        same = isinstance(value, Tensor) and value.shape == like.shape
        return _own(self._shard(value, like)) if same else value


def check_sharding(processes: int) -> None:
    """Refuse to share a network out over one process.

    Raises:
        ConfigError: for one process.
    """
    if processes == 1:
        raise ConfigError(
            "train.shard=true shares the network out over several processes, but there is one. Start more (--gpus N), "
            "or leave it out; model.checkpointing=true and train.accumulate=2 save memory in one process too."
        )


def _parts(method: Method) -> list[nn.Module]:
    """The modules with parameters that are called as a whole: parts of the networks, and what a method learns beside
    them.
    """
    found: list[nn.Module] = []
    waiting = list(method.children())
    while waiting:
        module = waiting.pop(0)
        if isinstance(module, Network) or module is method.peers:
            waiting = [*module.children(), *waiting]
        elif next(module.parameters(), None) is not None:
            found.append(module)
    return found


@torch.no_grad()
def _stored_in_rows(module: nn.Module) -> nn.Module:
    """The module with parameters that can be cut by rows: not laid out channels last."""
    for parameter in module.parameters():
        if not isinstance(parameter, DTensor):
            parameter.data = parameter.data.contiguous()
    return module


@torch.no_grad()
def _own(value: Any) -> Any:
    """Of a sharded tensor the shard of this process, which shares its memory; anything else as it is."""
    return value.to_local() if isinstance(value, DTensor) else value


def _full(value: Any) -> Any:
    return value.full_tensor() if isinstance(value, DTensor) else value


def _gathered(value: Any, stride: tuple[int, ...] | None, keep: bool) -> Any:
    """The whole of a value, on the CPU, of a sharded tensor in the layout it had before; None where it is not kept.

    Fused optimisers go through a parameter and its state side by side, so both need one layout.
    """
    whole = _full(value)
    if not keep:
        return None
    if not isinstance(value, DTensor):
        return whole.detach().cpu() if isinstance(whole, Tensor) else whole
    assert stride is not None
    return torch.empty_strided(whole.shape, stride, dtype=whole.dtype).copy_(whole.detach())


def _joined(value: Any, like: Any) -> Any:
    """A shard of the optimiser's state as a sharded tensor; numbers as they are."""
    if not isinstance(value, Tensor) or value.shape != _own(like).shape:
        return value
    return DTensor.from_local(
        value, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
