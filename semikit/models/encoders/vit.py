"""Transformers of one resolution as encoders: plain ViT, DINOv2, DINOv3 and EVA, BEiT, SAM."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Self, final

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn
from torch.nn import functional

from semikit.models.encoders.encoder import Encoder
from semikit.models.encoders.names import blocks_for

_OFFSET = 0.1  # added to the grid before the scale factor is computed, as released by DINOv2


class TokenEncoder(Encoder, ABC):
    """A timm transformer whose blocks `layers` are read, each through the final norm (as released)."""

    def __init__(self, backbone: Any, layers: tuple[int, ...] | None) -> None:
        super().__init__()
        self.layers = layers or blocks_for(len(backbone.blocks))
        self.used = sorted(set(self.layers))
        _prune(backbone, self.used)
        self.backbone = backbone
        self.patch = int(backbone.patch_embed.patch_size[0])
        self.widths = (int(backbone.embed_dim),) * len(self.layers)
        self.reductions = (self.patch,) * len(self.layers)
        self.multiple = self.patch

    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps (B, D, H / patch, W / patch), laid out channels last."""
        grid = (images.shape[-2] // self.patch, images.shape[-1] // self.patch)
        tokens = dict(zip(self.used, self.tokens(images, grid), strict=True))
        return tuple(tokens[layer].transpose(1, 2).reshape(images.shape[0], -1, *grid) for layer in self.layers)

    @abstractmethod
    def tokens(self, images: Tensor, grid: tuple[int, int]) -> list[Tensor]:
        """Patch tokens (B, N, D) of the blocks `used`."""

    def _blocks(self, tokens: Tensor, *biases: Tensor) -> list[Tensor]:
        """Patch tokens of the blocks `used`, where `biases` has one entry per block or is empty."""
        found = []
        prefix = self.backbone.num_prefix_tokens
        for number, block in enumerate(self.backbone.blocks):
            tokens = block(tokens, biases[number]) if biases else block(tokens)
            if number in self.used:
                found.append(self.backbone.norm(tokens[:, prefix:]))
        return found


@final
class ViT(TokenEncoder):
    """Any timm transformer with dynamic image size; position embeddings are resampled by timm."""

    def tokens(self, images: Tensor, grid: tuple[int, int]) -> list[Tensor]:
        """Patch tokens (B, N, D) of the blocks `used`."""
        found: list[Tensor] = self.backbone.forward_intermediates(
            images, indices=self.used, norm=True, output_fmt="NLC", intermediates_only=True
        )
        return found


@final
class DinoV2(TokenEncoder):
    """DINOv2 with its own resampling of the position embedding, on which the released weights depend."""

    def tokens(self, images: Tensor, grid: tuple[int, int]) -> list[Tensor]:
        """Patch tokens (B, N, D) of the blocks `used`."""
        patches = self.backbone.patch_embed(images).flatten(1, 2)
        first = self.backbone.cls_token.expand(patches.shape[0], -1, -1)
        positions = official_positions(self.backbone.pos_embed, grid)
        tokens = torch.cat((first, patches), dim=1) + positions
        return self._blocks(self.backbone.norm_pre(self.backbone.pos_drop(tokens)))


@final
class Beit(TokenEncoder):
    """BEiT, whose relative position biases are resampled to the image's grid in every forward."""

    def __init__(self, backbone: Any, layers: tuple[int, ...] | None) -> None:
        super().__init__(backbone, layers)
        backbone.patch_embed.strict_img_size = False
        found = [RelativeBias.taken_from(block.attn) for block in backbone.blocks]
        self.biases = nn.ModuleList(bias for bias in found if bias is not None)
        self.shared = RelativeBias.taken_from(backbone.rel_pos_bias)
        backbone.rel_pos_bias = None

    def tokens(self, images: Tensor, grid: tuple[int, int]) -> list[Tensor]:
        """Patch tokens (B, N, D) of the blocks `used`."""
        patches = self.backbone.patch_embed(images)
        tokens = torch.cat((self.backbone.cls_token.expand(patches.shape[0], -1, -1), patches), dim=1)
        if self.backbone.pos_embed is not None:
            native = self.backbone.patch_embed.grid_size
            tokens = tokens + resample_abs_pos_embed(self.backbone.pos_embed, grid, native, num_prefix_tokens=1)
        biases = [bias(grid) for bias in self.biases]
        if self.shared is not None:
            shared = self.shared(grid)
            biases = [bias + shared for bias in biases] or [shared] * len(self.backbone.blocks)
        return self._blocks(self.backbone.pos_drop(tokens), *biases)


@final
class Sam(TokenEncoder):
    """The image encoder of Segment Anything; it has no norm of tokens, so its blocks are read as they are."""

    def tokens(self, images: Tensor, grid: tuple[int, int]) -> list[Tensor]:
        """Patch tokens (B, N, D) of the blocks `used`."""
        maps = self.backbone.forward_intermediates(images, indices=self.used, norm=False, intermediates_only=True)
        return [item.flatten(2).transpose(1, 2) for item in maps]


def official_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Position embedding (1, 1 + n * n, D) -> (1, 1 + h * w, D) for another grid, as released by DINOv2.

    Bicubic without antialiasing, by a scale factor of (size + 0.1) / n instead of the size itself; in float32 and
    differentiable. The native grid is returned as it is.
    """
    side = math.isqrt(positions.shape[1] - 1)
    if torch.compiler.is_exporting():
        return _positions_of_any_grid(positions, grid, side)
    if grid == (side, side):
        return positions
    scale = ((grid[0] + _OFFSET) / side, (grid[1] + _OFFSET) / side)
    patches = positions[:, 1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    patches = functional.interpolate(patches, scale_factor=scale, mode="bicubic", antialias=False)
    assert tuple(patches.shape[-2:]) == grid, (patches.shape, grid)
    patches = patches.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.cat((positions[:, :1], patches.to(positions.dtype)), dim=1)


def _positions_of_any_grid(positions: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """As `official_positions`, in operations that an exported graph keeps for grids that are not known when it is made.

    What is otherwise decided by the grid is computed: a scale factor of 1 returns the native grid.
    """
    height, width = (torch.ones(count, device=positions.device).sum() for count in grid)
    offset = torch.where((height == side) & (width == side), 0.0, _OFFSET)
    down, across = (
        _cubic(count, (found + offset) / side, side) for count, found in zip(grid, (height, width), strict=True)
    )
    patches = positions[0, 1:].float().reshape(side, side, -1)
    patches = torch.einsum("hi,ijd->hjd", down, patches)
    patches = torch.einsum("wj,hjd->hwd", across, patches).flatten(0, 1)[None]
    return torch.cat((positions[:, :1], patches.to(positions.dtype)), dim=1)


_SHARPNESS = -0.75
"""Of torch's bicubic kernel."""


def _cubic(count: int, scale: Tensor, side: int) -> Tensor:
    """The weights (count, side) of bicubic interpolation of `side` values at a scale factor, clamped at the ends."""
    places = (torch.arange(count, device=scale.device) + 0.5) / scale - 0.5
    first, known = places.floor(), torch.arange(side, device=scale.device)
    total = torch.zeros(1, device=scale.device)
    for step in range(-1, 3):
        far = (places - first - step).abs()
        near = ((_SHARPNESS + 2) * far - (_SHARPNESS + 3)) * far * far + 1
        beyond = ((_SHARPNESS * far - 5 * _SHARPNESS) * far + 8 * _SHARPNESS) * far - 4 * _SHARPNESS
        tap = (first + step).clamp(0, side - 1)
        total = total + torch.where(far <= 1, near, beyond)[:, None] * (tap[:, None] == known)
    return total


def _prune(backbone: Any, used: list[int]) -> None:
    """Drop what no level depends on: later blocks, poolings, the classifier.

    Where timm normalises after pooling, that norm is the one whose weights were trained, so it becomes the final one.
    """
    final = getattr(backbone, "norm", None)
    if isinstance(final, nn.Identity) and isinstance(getattr(backbone, "fc_norm", None), nn.LayerNorm):
        backbone.norm = backbone.fc_norm
    backbone.prune_intermediate_layers(used, prune_norm=final is None)


_EXTRA = 3  # class token to patch, patch to class token, class token to itself


@final
class RelativeBias(nn.Module):
    """A table over the distances of a window (2h-1)(2w-1) + 3, by head -> a bias (1, heads, 1 + N, 1 + N).

    Distances of another grid are read from the table by bilinear interpolation, as in the dense-prediction models
    built on BEiT; the native grid is read as it is.
    """

    def __init__(self, table: nn.Parameter, window: tuple[int, int]) -> None:
        super().__init__()
        self.table = table
        self.window = window

    @classmethod
    def taken_from(cls, owner: Any) -> Self | None:
        """The table of a timm module, which forgets it, as its bias is given from outside then; None without one."""
        if owner is None or owner.relative_position_bias_table is None:
            return None
        bias = cls(owner.relative_position_bias_table, tuple(owner.window_size))
        owner.relative_position_bias_table = None
        owner.relative_position_index = None
        return bias

    def forward(self, grid: tuple[int, int]) -> Tensor:
        """The bias for images of `grid` patches."""
        spans = (2 * grid[0] - 1, 2 * grid[1] - 1)
        index = _index(grid, self.table.device)
        table = torch.cat((self._resampled(spans), self.table[-_EXTRA:]))
        return table[index].permute(2, 0, 1)[None]

    def _resampled(self, spans: tuple[int, int]) -> Tensor:
        """Distances of the wanted grid (spans[0] * spans[1], heads)."""
        native = (2 * self.window[0] - 1, 2 * self.window[1] - 1)
        if spans == native:
            return self.table[:-_EXTRA]
        plane = self.table[:-_EXTRA].float().T.reshape(1, -1, *native)
        plane = functional.interpolate(plane, size=spans, mode="bilinear", align_corners=False)
        return plane[0].flatten(1).T.to(self.table.dtype)


def _index(grid: tuple[int, int], device: torch.device) -> Tensor:
    """Rows of the table (1 + N, 1 + N): patch to patch by distance, then the three rows of the class token."""
    height, width = grid
    rows = torch.arange(height, device=device).repeat_interleave(width)
    columns = torch.arange(width, device=device).repeat(height)
    down = rows[:, None] - rows[None] + height - 1
    right = columns[:, None] - columns[None] + width - 1
    last = (2 * height - 1) * (2 * width - 1)
    index = functional.pad(down * (2 * width - 1) + right, (1, 0, 0, 0), value=last + 1)
    index = functional.pad(index, (0, 0, 1, 0), value=last)
    corner = functional.pad(torch.ones(1, 1, dtype=index.dtype, device=device), (0, height * width, 0, height * width))
    return index + 2 * corner
