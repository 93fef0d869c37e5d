"""A CUDA device that is not there: torch's fake tensors, which have types, shapes and devices, but no values.

Neither driver nor compiler is needed. Two parts of torch want a real device, and are replaced while the block runs:
the engine that walks the graph of a backward pass (it asks for the streams of the device), by the same walk in Python,
and the choice of the attention kernel. DistributedDataParallel is left out: it reads the memory of gradients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from tests.helpers.sync_counter import INDEXING, WAITING

_COPIES = {"_to_copy", "copy_"}
_NO_KERNEL = {"_unsafe_view", "detach", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}


class Recorder(TorchDispatchMode):
    """Counts what a device would do and, while `strict`, raises where the host would wait for it or where an operand
    is not on it.

    `operations` are those that start a kernel, by name; `copies` come from the host, of which `pageable` not through
    page-locked memory; `flops` are those of matrix products and convolutions.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.strict = False
        self.operations: Counter[str] = Counter()
        self.copies = self.pageable = self.flops = 0

    @contextmanager
    def watching(self, strict: bool = True) -> Iterator[None]:
        """Strict while the block runs, unless not asked for; counts from 0."""
        self.operations, self.copies, self.pageable, self.flops, self.strict = Counter(), 0, 0, 0, strict
        try:
            yield
        finally:
            self.strict = False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name, kwargs = func.name().split("::")[1].split(".")[0], kwargs or {}
        if name == "is_pinned":
            return getattr(args[0], "pinned", False)
        if name == "_pin_memory":
            args[0].pinned = True
            return args[0]
        if name == "empty" and kwargs.get("pin_memory"):
            out = func(*args, **{**kwargs, "pin_memory": False})
            out.pinned = True
            return out
        run = _nothing if name == "_fused_sgd_" else func  # which torch has not for tensors without values
        if name == "device" or not self.strict:
            return run(*args, **kwargs)
        given = _tensors((args, kwargs))
        devices = {tensor.device.type for tensor in given}
        kinds = {index.dtype for index in args[1] if isinstance(index, Tensor)} if name in INDEXING else set()
        waits = name in WAITING or kinds & {torch.bool, torch.uint8}
        assert not (waits and "cuda" in devices), f"{name} asks the device"
        assert name in _COPIES or devices != {"cpu", "cuda"}, f"{name} has operands on the CPU and on the device"
        out = run(*args, **kwargs)
        if func.is_view:
            for tensor in _tensors(out):
                tensor.pinned = getattr(given[0], "pinned", False)
        elif name not in _NO_KERNEL and "cuda" in devices | {tensor.device.type for tensor in _tensors(out)}:
            self._count(func, name, args, kwargs, out)
        return out

    def _count(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        self.operations[name] += 1
        if func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **kwargs, out_val=out)
        if name in _COPIES:
            self._count_copy(name, args, kwargs, out)

    def _count_copy(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
        source, target = (args[1], args[0]) if name == "copy_" else (args[0], out)
        way = (source.device.type, target.device.type)
        assert way != ("cuda", "cpu"), f"a copy of {tuple(source.shape)} to the host waits for the device"
        if way == ("cpu", "cuda"):
            pinned = getattr(source, "pinned", False)
            waits = not (kwargs.get("non_blocking") or (name == "copy_" and args[2:] == (True,)))
            assert not (pinned and waits), f"the copy of {tuple(source.shape)} to the device waits"
            self.copies, self.pageable = self.copies + 1, self.pageable + (not pinned)


def _nothing(*args: Any, **kwargs: Any) -> None:
    """In place of an operation that returns nothing."""


def _tensors(tree: Any) -> list[Any]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


@contextmanager
def fake_device() -> Iterator[Recorder]:
    """While the block runs tensors are fake and may be on "cuda"; see the head of this file."""
    parts = {
        "torch.Tensor.backward": _backward,
        "torch.nn.Module._apply": _apply,
        "torch.nn.functional.scaled_dot_product_attention": _attention,
        "torch.utils._foreach_utils._foreach_supported_types": [Tensor, nn.Parameter, FakeTensor],
        "torch.cuda.is_bf16_supported": lambda *_: True,
        "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
        "semikit.run.build.choose_device": torch.device,
        "semikit.run.build.over_processes": lambda method, *_: method,
    }
    with ExitStack() as stack:
        for target, part in parts.items():
            stack.enter_context(mock.patch(target, part))
        stack.enter_context(mock.patch.object(FakeTensor, "__deepcopy__", _copy, create=True))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield stack.enter_context(Recorder())


@torch.no_grad()
def _backward(loss: Tensor) -> None:
    """Gradients of a scalar: every node of its graph is called once, after all that follow it."""
    gradients: dict[Any, dict[int, Tensor]] = {loss.grad_fn: {0: torch.ones_like(loss)}}
    nodes, stack = set[Any](), list[Any]([loss.grad_fn])
    while stack:
        if (node := stack.pop()) not in nodes:
            nodes.add(node)
            stack += [after for after, _ in node.next_functions if after is not None]
    for node in sorted(nodes, key=lambda node: (hasattr(node, "variable"), -node._sequence_nr())):  # leaves at last
        mine = gradients.pop(node)
        if hasattr(node, "variable"):
            leaf = node.variable
            leaf.grad = mine[0] if leaf.grad is None else leaf.grad + mine[0]
            continue
        found = node(*(mine.get(i) for i in range(len(node._input_metadata))))
        edges = zip(found if isinstance(found, tuple) else (found,), node.next_functions, strict=True)
        for gradient, (after, i) in edges:
            if after is not None and gradient is not None:
                there, wanted = gradients.setdefault(after, {}), after._input_metadata[i]
                fitting = gradient.sum_to_size(wanted.shape).to(wanted.dtype)
                there[i] = there[i] + fitting if i in there else fitting


def _apply(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Module._apply with new parameters in place of the old: fake ones cannot be swapped."""
    for child in module.children():
        child._apply(change)  # type: ignore[no-untyped-call]
    for values in (module._parameters, module._buffers):
        for name, value in values.items():
            if value is None:
                continue
            with torch.no_grad():
                new = change(value)
            if new is not value:
                kept = isinstance(value, nn.Parameter)
                values[name] = nn.Parameter(new, value.requires_grad) if kept else new  # type: ignore[assignment]
    return module


@torch.no_grad()
def _copy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """Tensor.__deepcopy__ without all that belongs to a fake tensor, its mode among it."""
    if id(tensor) not in memo:
        new = tensor.detach().clone()
        memo[id(tensor)] = nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new
    return memo[id(tensor)]  # type: ignore[no-any-return]


def _attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The kernel a device takes: flash attention in half precision, else the memory-efficient one."""
    assert not args, args
    assert not {name for name, given in kwargs.items() if given}, kwargs
    if torch.is_autocast_enabled("cuda"):
        half = torch.get_autocast_dtype("cuda")
        query, key, value = query.to(half), key.to(half), value.to(half)
    if query.dtype == torch.float32:
        return torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, None, query.requires_grad)[0]  # type: ignore[no-any-return]
    return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]  # type: ignore[no-any-return]
