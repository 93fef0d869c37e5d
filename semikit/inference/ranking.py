"""What to label next: how unsure a network is of images, and which of them are unlike the others or typical.

K classes, D features; S is (H, W) of pixels and () of whole images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from math import log
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from semikit.augment.settings import StrongSettings
from semikit.augment.strong import draw_factors, strong_view
from semikit.augment.weak import squeezed
from semikit.core.network import Network
from semikit.core.rng import rng_for
from semikit.core.task import Inference
from semikit.data.formats.images import read_rgb
from semikit.errors import FileFault
from semikit.inference.class_evaluation import ClassEvaluateSettings, ClassEvaluation, of_images
from semikit.inference.ensemble import Ensemble
from semikit.inference.many_files import caught
from semikit.inference.pictures import displayed
from semikit.inference.predictor import Predictor
from semikit.inference.scenes import Files, SceneReader
from semikit.inference.streamed import ReadRegion
from semikit.inference.windows import grouped, normalized, orientation_of, read_ahead
from semikit.raster.region import Region, middle

Measure = Literal["margin", "entropy", "disagreement"]

_LARGEST = 1024
"""Side of the middle of a raster that a pretrained encoder sees, pixels."""
_SIDE = 224
"""What it sees images resized to."""
_TOGETHER = 16
_NEIGHBOURS = 20
_ROUNDS = 100
_BLOCK = 1024


@final
@dataclass(frozen=True, slots=True)
class Seen:
    """What a network says of one image or pair.

    `features` (D,) are those of the encoder, averaged over positions and windows. `uncertainty` (0..1) and `confidence`
    (0..1) are means over valid positions, `shares` (K,) those of the classes that are predicted there; of a pretrained
    encoder alone there are none.
    """

    name: str
    files: Files
    features: Tensor
    uncertainty: float = 0.0
    confidence: float = 0.0
    shares: Tensor = field(default_factory=lambda: torch.zeros(0))


Sight = Seen | FileFault


def uncertainty(probabilities: Tensor, by: Measure, others: Sequence[Tensor] = ()) -> Tensor:
    """Probabilities (K, *S) -> (*S): 1 less what the most probable class is ahead of the second (margin), the entropy
    as a share of the largest one, or how far `others` (K, *S) are from it and each other (Jensen-Shannon divergence, as
    a share of the largest one); all 0..1.
    """
    if by == "margin":
        first, second = probabilities.topk(2, 0).values
        return 1 - (first - second)  # type: ignore[no-any-return]
    entropy: Tensor = torch.special.entr(probabilities).sum(0)
    if by == "entropy":
        return entropy / log(len(probabilities))
    every = torch.stack([probabilities, *others])
    divergence: Tensor = torch.special.entr(every.mean(0)).sum(0) - torch.special.entr(every).sum(1).mean(0)
    return divergence.clamp(min=0) / log(min(every.shape[:2]))


@final
class ColourView:
    """Images in other colours, the same for all of them. As strong as views of training are, a network of few labels
    would disagree on images that it has right as on others.
    """

    def __init__(self, change: float) -> None:
        on, more, less = torch.ones(1).bool(), torch.tensor([1 + change]), torch.tensor([1 - change])
        drawn = replace(draw_factors(rng_for(0, "rank"), 1, StrongSettings()), jitter=on, grayscale=~on, blur=~on)
        self.factors = replace(drawn, brightness=more, contrast=less, saturation=more, hue=torch.tensor([change]))

    def __call__(self, image: Any) -> Any:
        """Images (*T, H, W, C) uint8, one for each date."""
        every = torch.tensor(image).movedim(-1, -3).reshape(-1, image.shape[-1], *image.shape[-3:-1])
        views = torch.cat([strong_view(one[None] / 255, self.factors) for one in every])
        return views.mul_(255).round_().byte().movedim(1, -1).reshape(image.shape).numpy()


_VIEWS = (ColourView(0.2), ColourView(-0.2))


@final
class Pooled:
    """The last level of a network's encoder, averaged over its positions, of all images that pass; those of several
    dates beside each other.
    """

    def __init__(self, network: Network, dates: int) -> None:
        self.rows: list[Tensor] = []
        self.dates = dates
        network.encoder.register_forward_hook(self._keep)  # type: ignore[union-attr]

    def _keep(self, module: object, inputs: object, found: Any) -> None:
        level = found[-1] if isinstance(found, tuple) else found
        vectors = level.float().flatten(2).mean(2) if level.ndim > 2 else level.float()
        self.rows.append(vectors.reshape(-1, self.dates * vectors.shape[1]).cpu())

    def take(self) -> Tensor:
        """Of the images since the last call, (N, D)."""
        rows, self.rows = self.rows, []
        return torch.cat(rows)


def seen_maps(predictors: Sequence[Predictor], scenes: Mapping[str, Files], by: Measure) -> Iterator[Sight]:
    """Scenes one by one, predicted as `predict` does by the first: rasters window by window, in bounded memory; by
    others in other colours.
    """
    predictor, every = predictors[0], list(scenes.items())
    pooled = Pooled(predictor.ensemble.networks[0], len(every[0][1]))

    def open_scene(k: int) -> ReadRegion:
        predictor.check_corner(every[k][1])
        return predictor.open(every[k][1])

    opened = read_ahead(caught(open_scene), len(every))
    for (name, files), read in zip(every, opened, strict=True):
        try:
            yield read if isinstance(read, FileFault) else _seen_map(predictors, pooled, (name, files), read, by)
        except FileFault as fault:
            yield fault


def _seen_map(
    predictors: Sequence[Predictor], pooled: Pooled, scene: tuple[str, Files], read: Any, by: Measure
) -> Seen:
    name, files = scene
    reads = [read, *(_viewed(read, view) for view in _VIEWS)]
    views = [one.pieces_of(files, its, (0, 1)) for one, its in zip(predictors, reads, strict=False)]
    classes = torch.zeros(len(predictors[0].reader.class_names))
    sums, vectors, windows = torch.zeros(3, dtype=torch.float64), torch.zeros(()), 0
    for piece, *others in zip(*views, strict=True):
        valid = torch.from_numpy(piece.valid).to(piece.probabilities.device)
        confidence, found = piece.probabilities.max(0)
        unsure = uncertainty(piece.probabilities, by, [one.probabilities for one in others])
        sums += torch.stack([unsure[valid].sum(), confidence[valid].sum(), valid.sum()]).double().cpu()
        classes += torch.bincount(found[valid], minlength=len(classes)).cpu()
        if pooled.rows:
            rows = pooled.take()
            vectors, windows = vectors + rows.sum(0), windows + len(rows)
    if not sums[2]:
        raise _without_a_pixel(files)
    unsure_mean, sure = (sums[:2] / sums[2]).tolist()
    return Seen(name, files, vectors / windows, unsure_mean, sure, classes / classes.sum())


def _without_a_pixel(files: Files, where: str = "") -> FileFault:
    return FileFault("image without a valid pixel", files[0], where, "Leave it out.")


def _viewed(read: ReadRegion, view: ColourView) -> ReadRegion:
    def viewed(region: Region) -> tuple[Any, Any]:
        image, valid = read(region)
        return view(image), valid

    return viewed


def seen_classes(
    networks: Sequence[Network], metadata: Mapping[str, Any], scenes: Mapping[str, Files], by: Measure, on: Inference
) -> Iterator[Sight]:
    """Images of one class each, predicted as `predict` does by the first network; by others in other colours."""
    settings = ClassEvaluateSettings.model_validate(metadata["evaluate"])
    evaluation = ClassEvaluation(tuple(metadata["class_names"]), settings, metadata["size"])
    (ensemble, *others), pooled = [Ensemble.ready([one], on) for one in networks], Pooled(networks[0], 1)
    upright, every = orientation_of(metadata) != "stored", list(scenes.items())

    def read(k: int) -> Any:
        return evaluation.fitted(read_rgb(every[k][1][0], upright=upright), metadata["side"])

    def seen(scenes: Sequence[tuple[str, Files]], images: Sequence[Any]) -> Iterator[Seen]:
        shares = ensemble.mean(np.stack(images), of_images).cpu()
        rows = pooled.take()
        views = (np.stack([*map(view, images)]) for view in _VIEWS)
        unsure = uncertainty(shares.T, by, [one.mean(next(views), of_images).cpu().T for one in others])
        pooled.rows.clear()
        for (name, files), share, row, its in zip(scenes, shares, rows, unsure.tolist(), strict=True):
            predicted = torch.zeros_like(share)
            predicted[share.argmax()] = 1
            yield Seen(name, files, row, its, float(share.max()), predicted)

    return _in_groups(every, read, settings.batch, seen)


def seen_untrained(
    network: Network, reader: SceneReader, scenes: Mapping[str, Files], inference: Inference
) -> Iterator[Sight]:
    """Images or pairs through a pretrained encoder that classifies, all resized to one square; of rasters of more than
    1024 pixels a side the middle.
    """
    network, every = network.to(inference.device).eval(), list(scenes.items())

    def read(k: int) -> Any:
        files, region = every[k][1], shown_region(reader, every[k][1])
        image, valid = reader.samples(files, reader.range_of(files)).image(0, region)
        if valid is not None and not valid.any():
            raise _without_a_pixel(files, "" if region is None else "in its middle, which stands for it")
        return np.stack([squeezed(date, (_SIDE, _SIDE)) for date in displayed(image)])

    def seen(scenes: Sequence[tuple[str, Files]], images: Sequence[Any]) -> Iterator[Seen]:
        dates = np.concatenate(images)
        with torch.no_grad(), inference.autocast():
            level = network.encode(normalized(network, dates, inference.device)).levels[-1].float().cpu()
        for (name, files), row in zip(scenes, level.reshape(len(images), -1), strict=True):
            yield Seen(name, files, row)

    return _in_groups(every, read, _TOGETHER, seen)


def _in_groups(
    every: Sequence[tuple[str, Files]],
    read: Callable[[int], Any],
    size: int,
    seen: Callable[[Sequence[tuple[str, Files]], Sequence[Any]], Iterator[Seen]],
) -> Iterator[Sight]:
    """What is `seen` of scenes, `size` at most with images of one shape together, in order; faults as they are."""
    images = zip(every, read_ahead(caught(read), len(every)), strict=True)
    for group in grouped(images, size, key=lambda one: np.shape(one[1])):
        scenes, found = zip(*group, strict=True)
        yield from found if isinstance(found[0], FileFault) else seen(scenes, found)


def shown_region(reader: SceneReader, files: Files) -> Region | None:
    """What of a scene is shown, and seen by an encoder without a run: the middle of a raster; None: all of a photo."""
    return middle(reader.grid(files).size, _LARGEST) if reader.by_windows(files) else None


# ---------------------------------------------------------------------------------------------------------- the choice


@final
@dataclass(frozen=True, slots=True)
class Choice:
    """An image that is to be labelled, by its place among those that were seen. `distance` (0..2) is that to the
    nearest image with a label or chosen before; None of the first, or `typicality` is what it was chosen by.
    """

    index: int
    distance: float | None = None
    typicality: float | None = None


def unsure_and_unlike(seen: Sequence[Seen], count: int, labelled: Sequence[int], rare: bool) -> list[Choice]:
    """At most `count` images, the most worth a label first: greedily the largest product of uncertainty and distance
    to all that are labelled or chosen (k-centre, on features of unit length); with `rare` also of how rare the classes
    are that are predicted there. None of the `labelled` is chosen.
    """
    features = _unit([one.features for one in seen])
    worth = torch.tensor([one.uncertainty for one in seen])
    if rare:
        shares = torch.stack([one.shares for one in seen])
        worth *= (shares * shares.mean(0).clamp(min=1e-6).rsqrt()).sum(1)
    free, nearest = torch.ones(len(seen), dtype=torch.bool), torch.full((len(seen),), torch.inf)
    for index in labelled:
        free[index], nearest = False, torch.minimum(nearest, _distances(features, index))
    chosen: list[Choice] = []
    for _ in range(min(count, int(free.sum()))):
        score = worth * (nearest if nearest.isfinite().all() else 1)
        index = int(torch.where(free, score, -1.0).argmax())
        chosen.append(Choice(index, float(nearest[index]) if nearest[index].isfinite() else None))
        free[index], nearest = False, torch.minimum(nearest, _distances(features, index))
    return chosen


def _unit(features: Sequence[Tensor]) -> Tensor:
    return torch.nn.functional.normalize(torch.stack(list(features)).float(), dim=1)


def _distances(features: Tensor, index: int) -> Tensor:
    return (2 - 2 * features @ features[index]).clamp(min=0).sqrt()


def typical(seen: Sequence[Seen], count: int) -> list[Choice]:
    """At most `count` images before any is labelled (TypiClust, arXiv 2202.02794): one of each of as many clusters, of
    the largest first, the one whose 20 nearest neighbours within it are nearest.
    """
    features = _unit([one.features for one in seen])
    count = min(count, len(seen))
    clusters = _clusters(features, count)
    members = sorted((torch.nonzero(clusters == k)[:, 0] for k in range(count)), key=len, reverse=True)
    ordered: list[list[Choice]] = []
    for own in filter(len, members):
        density = _typicality(features[own])
        order = density.argsort(descending=True, stable=True).tolist()
        ordered.append([Choice(int(own[k]), typicality=float(density[k])) for k in order])
    # Clusters are fewer than wanted where images are alike: then some give their second.
    in_turn = [one for row in zip_longest(*ordered) for one in row if one is not None]
    return in_turn[:count]


def _typicality(features: Tensor) -> Tensor:
    """Features (N, D) of a cluster -> (N,), 1 / (1 + the mean distance to the nearest neighbours)."""
    near = min(_NEIGHBOURS, len(features) - 1)
    if not near:
        return torch.zeros(1)
    blocks = (
        torch.cdist(part, features).topk(near + 1, largest=False).values for part in torch.split(features, _BLOCK)
    )
    return 1 / (1 + torch.cat([block[:, 1:].mean(1) for block in blocks]))


def _clusters(features: Tensor, count: int) -> Tensor:
    """The cluster of each of N features (N, D), by k-means from centres that are far from each other (k-means++)."""
    generator = torch.Generator().manual_seed(0)
    centres = features[:1]
    nearest = torch.full((len(features),), torch.inf)
    while len(centres) < count:
        nearest = torch.minimum(nearest, (features - centres[-1]).square().sum(1))
        index = torch.multinomial(nearest.clamp(min=1e-12), 1, generator=generator)
        centres = torch.cat([centres, features[index]])
    clusters = torch.zeros(0)
    for _ in range(_ROUNDS):
        before, clusters = clusters, torch.cdist(features, centres).argmin(1)
        if torch.equal(before, clusters):
            break
        sizes = torch.bincount(clusters, minlength=count)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, clusters, features)
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
    return clusters


def labelled_among(scenes: Iterable[Files], run: Path, train: Mapping[str, Any]) -> list[int]:
    """The numbers of scenes that a run learned from with their labels: its folder lists their names below one of the
    places of `train`, what its configuration says of its images.
    """
    listed = run / "labeled.txt"
    if not listed.is_file():
        return []
    names = set(listed.read_text(encoding="utf-8").splitlines())
    places = [Path(place) for place in train.values() if isinstance(place, str)]
    folders = [place.resolve() if place.is_dir() else place.parent.resolve() for place in places]

    def is_labelled(file: Path) -> bool:
        real = file.resolve()
        below = (real.relative_to(folder) for folder in folders if real.is_relative_to(folder))
        return any(inner.with_suffix("").as_posix() in names or inner.as_posix() in names for inner in below)

    return [number for number, files in enumerate(scenes) if is_labelled(files[0])]
