"""What a mix transformer's parameters are called: by the authors of SegFormer, by transformers then and now."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

FIRST = "stages.0.patch_embeddings.proj"
"""The convolution that sees the image, under its present name."""

_PARTS = (  # of a block: now, as transformers began, as the authors published
    ("layernorm_before", "layer_norm_1", "norm1"),
    ("attention.q_proj", "attention.self.query", "attn.q"),
    ("attention.k_proj", "attention.self.key", "attn.k"),
    ("attention.v_proj", "attention.self.value", "attn.v"),
    ("attention.o_proj", "attention.output.dense", "attn.proj"),
    ("attention.sequence_reduction.sequence_reduction", "attention.self.sr", "attn.sr"),
    ("attention.sequence_reduction.layer_norm", "attention.self.layer_norm", "attn.norm"),
    ("layernorm_after", "layer_norm_2", "norm2"),
    ("mlp.fc1", "mlp.dense1", "mlp.fc1"),
    ("mlp.fc2", "mlp.dense2", "mlp.fc2"),
)
_OLD = (
    (re.compile(r"^encoder\.block\.(\d)\.(\d+)\."), "stages.{}.blocks.{}."),
    (re.compile(r"^encoder\.patch_embeddings\.(\d)\."), "stages.{}.patch_embeddings."),
    (re.compile(r"^encoder\.layer_norm\.(\d)\."), "stages.{}.layer_norm."),
)
_AUTHORS = (  # they count stages from 1
    (re.compile(r"^block(\d)\.(\d+)\."), "stages.{}.blocks.{}."),
    (re.compile(r"^patch_embed(\d)\.norm\."), "stages.{}.patch_embeddings.layer_norm."),
    (re.compile(r"^patch_embed(\d)\."), "stages.{}.patch_embeddings."),
    (re.compile(r"^norm(\d)\."), "stages.{}.layer_norm."),
)
_BACK = (
    (re.compile(r"^stages\.(\d)\.blocks\.(\d+)\."), "encoder.block.{}.{}."),
    (re.compile(r"^stages\.(\d)\.patch_embeddings\."), "encoder.patch_embeddings.{}."),
    (re.compile(r"^stages\.(\d)\.layer_norm\."), "encoder.layer_norm.{}."),
)
_OWNERS = ("segformer.", "backbone.")
_HEADS = ("classifier.", "decode_head.", "head.")


def renamed(state: Mapping[str, Tensor], model: Any) -> dict[str, Tensor]:
    """A published state, the authors' or transformers', under the model's names: without classifier or decoder, and
    the authors' joint keys and values as two.
    """
    found: dict[str, Tensor] = {}
    for full, value in state.items():
        name = full
        for owner in _OWNERS:
            name = name.removeprefix(owner)
        if name.startswith(_HEADS):
            continue
        if ".attn.kv." in name:
            for part, half in zip((".attn.k.", ".attn.v."), value.chunk(2), strict=True):
                found[in_layout_of(model, name.replace(".attn.kv.", part))] = half
        else:
            found[in_layout_of(model, name)] = value
    return found


def in_layout_of(model: Any, name: str) -> str:
    """A name of any of the three layouts as this SegformerModel has it; a name of none of them is left as it is."""
    name = _present(name)
    return name if hasattr(model, "stages") else _rewritten(name, _BACK, 0, 1)


def _present(name: str) -> str:
    for column, (layout, origin) in enumerate(((_OLD, 0), (_AUTHORS, 1)), start=1):
        if any(pattern.match(name) for pattern, _ in layout):
            return _rewritten(name, layout, column, 0, origin)
    return name


def _rewritten(
    name: str, layout: tuple[tuple[re.Pattern[str], str], ...], given: int, wanted: int, origin: int = 0
) -> str:
    """The name with the beginning of another layout and, inside a block, the part of column `wanted`."""
    for pattern, form in layout:
        found = pattern.match(name)
        if found is None:
            continue
        stage, *block = found.groups()
        start, rest = form.format(int(stage) - origin, *block), name[found.end() :]
        parts = {row[given]: row[wanted] for row in _PARTS} if block else {}
        part = next((part for part in parts if rest.startswith(f"{part}.")), None)
        return start + (rest if part is None else parts[part] + rest.removeprefix(part))
    return name
