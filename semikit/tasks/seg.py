"""Semantic segmentation: a class for every pixel, from few labelled and many unlabelled images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import torch

from semikit.core.batch import Labeled, Needs, Unlabeled
from semikit.core.network import Network
from semikit.core.settings import Settings
from semikit.core.task import Counts, Inference, Plan, Scores, Split, Task, Wants
from semikit.data import manifest
from semikit.data.check import check_sources, missing_files, orientation_notice, parts_of, sampled
from semikit.data.loader import StepLoader
from semikit.data.sources import PixelSource
from semikit.data.splits import choose, coverage, missing_classes
from semikit.errors import ConfigError, DataError
from semikit.models.released import load_released
from semikit.models.segmenter import Segmenter, build_segmenter
from semikit.models.settings import ModelSettings
from semikit.tasks._data import PixelData, open_sources
from semikit.tasks._evaluate import PixelEvaluation
from semikit.tasks._inference import EvaluateSettings
from semikit.tasks._pictures import save_png
from semikit.tasks._pixels import SECOND, Crops, PixelViewMaker, PixelViews, streams
from semikit.tasks._predict import predict_files

_RAREST = 12
_CHECKED = {"labelled": 1000, "val": 200}
"""Images of a published data set that are looked through before training; `--dry-run` and `data verify` do more."""


@final
class Segmentation(Task):
    """Semantic segmentation, `semikit train seg`."""

    Data: ClassVar[type[Settings]] = PixelData
    Views: ClassVar[type[Settings]] = PixelViews
    Evaluate: ClassVar[type[Settings]] = EvaluateSettings
    metric: ClassVar[str] = "mIoU"

    def __init__(
        self, data: PixelData, views: PixelViews, evaluate: EvaluateSettings, plan: Plan, needs: Needs
    ) -> None:
        self.data, self.settings, self.plan, self.needs = data, views, plan, needs
        self.sources = sources = open_sources(data)
        self.class_names, self.train, self.val, self.test = (
            sources.class_names,
            sources.train,
            sources.val,
            sources.test,
        )
        self.evaluation = PixelEvaluation(sources.class_names, evaluate, views.weak.crop, sources.palette)
        seed = plan.seed if data.split_seed is None else data.split_seed
        self.split = choose(
            data.labels, self.train, self.val, sources.unlabeled, seed=seed, test=self.test, official=sources.official
        )
        self.counts = Counts(
            labeled=len(self.split.labeled),
            unlabeled=len(self.split.unlabeled),
            val=len(self.val),
            test=0 if self.test is None else len(self.test),
        )

    # -------------------------------------------------------------------------------------------- before training

    def network(self, settings: ModelSettings) -> Segmenter:
        """Encoder, decoder and classifier for the classes and bands of the data."""
        channels = int(self.train.image(self.split.labeled[0])[0].shape[-1])
        if settings.in_channels not in (3, channels):
            raise ConfigError(
                f"model.in_channels is {settings.in_channels}, but the images have {channels} channels. Leave it out."
            )
        self.model = settings.model_copy(update={"in_channels": channels})
        network = build_segmenter(self.model, len(self.class_names))
        crop, multiple = self.settings.weak.crop, network.multiple
        if crop % multiple:
            down = crop // multiple * multiple
            near = " or ".join(str(side) for side in (down, down + multiple) if side)
            raise ConfigError(
                f"crop {crop} is not a multiple of the patch of {settings.encoder}, {multiple}. Use {near}."
            )
        self.statistics = {"mean": list(network.mean), "std": list(network.std)}
        self.maker = PixelViewMaker(self.settings, self.plan, self.needs, network.mean, network.std)
        return network

    def check(self, thorough: bool = False) -> None:
        """Labelled, validation and test images with their masks; with `thorough` the unlabelled images too.

        Of a published data set every file has to be there, and a part of them is opened (with `thorough` all that are
        labelled). Afterwards `notices` tells how many labelled images hold each class, and what else a person should
        know.
        """
        published = self.data.published is not None
        if self.data.shapes is None:
            parts = parts_of(self.split, self.val, self.test)
            gone = missing_files(parts) if published else []
            if gone:
                raise DataError("; ".join(gone) + ". Run `semikit data verify`, then prepare the root again.")
            parts = [part for part in parts if part.masks or (thorough and not published)]
            if published and not thorough:
                parts = [sampled(part, _CHECKED[part.name]) for part in parts]
            check_sources(parts, len(self.class_names))
        looked = self.split.labeled
        if published and not thorough:
            looked = looked[:: max(1, -(-len(looked) // _CHECKED["labelled"]))]
        counts = coverage(self.train, looked, len(self.class_names))
        pairs = sorted(zip(counts.tolist(), self.class_names, strict=True))
        held = ", ".join(f"{name} {count}" for count, name in pairs[:_RAREST])
        more = f" (the {_RAREST} rarest of {len(pairs)})" if len(pairs) > _RAREST else ""
        some = "" if len(looked) == len(self.split.labeled) else f" of {len(looked)} looked at"
        found = (
            f"labelled images{some} that hold each class: {held}{more}",
            None if some else missing_classes(counts, self.class_names),
            orientation_notice(self.train, looked),
        )
        self.notices = [notice for notice in found if notice is not None]

    def manifest(self) -> Mapping[str, Any]:
        """The split as plain values."""
        return manifest.Manifest.of(self.split).model_dump(mode="json")

    def write_split(self, folder: Path) -> None:
        """Write split.json, labeled.txt and unlabeled.txt."""
        manifest.write(folder, self.split)

    def metadata(self) -> Mapping[str, Any]:
        """Classes, network, inference and how pixels are read."""
        folders, scale = self.data.folders, self.sources.scale
        return {
            "class_names": list(self.class_names),
            "palette": self.sources.palette[: len(self.class_names)].tolist(),
            "model": self.model.model_copy(update={"weights": "none", "lora": None}).model_dump(mode="json"),
            **self.statistics,
            "evaluate": self.evaluation.settings.model_dump(mode="json"),
            "crop": self.settings.weak.crop,
            "bands": None if folders is None or folders.bands is None else list(folders.bands),
            "scale": None if scale is None else scale.model_dump(mode="json"),
        }

    # --------------------------------------------------------------------------------------------------- training

    def batches(self, steps: range, workers: int, pin: bool) -> Iterable[Any]:
        """Raw crops, step by step."""
        pools: dict[str, list[tuple[PixelSource, int]]] = {
            "labeled": [(self.train, index) for index in self.split.labeled],
            "unlabeled": [(self.split.pool, index) for index in self.split.unlabeled],
        }
        pools[SECOND] = pools["unlabeled"]
        make = Crops(pools, frozenset({"labeled"}), self.settings.weak)
        return StepLoader(streams(pools, self.plan, self.needs), make, self.plan.seed, steps, workers, pin=pin)

    def views(self, raw: Any, step: int, device: torch.device) -> tuple[Labeled, Unlabeled | None]:
        """Strong views, mixing and normalisation, on the device."""
        return self.maker(raw, step, device)

    def evaluate(self, networks: Mapping[str, Network], split: Split, inference: Inference) -> dict[str, Scores]:
        """Mean IoU and more, of every network, over each image once."""
        source = self.val if split == "val" else self.test
        assert source is not None, split
        return self.evaluation.scores(networks, source, inference)

    def pictures(self, network: Network, folder: Path, inference: Inference) -> list[Path]:
        """Four validation images: input, truth, prediction, confidence."""
        folder.mkdir(exist_ok=True)
        path = folder / "validation.png"
        save_png(self.evaluation.picture(network, self.val, inference), path)
        return [path]

    # ------------------------------------------------------------------------------------------------- prediction

    @classmethod
    def released(cls, path: Path) -> tuple[Network, dict[str, Any]]:
        """A network of the authors' released checkpoints (its average where there is one), and its metadata.

        Such a file names no classes; they are numbered. With 19 of them (Cityscapes) windows of 798 pixels slide, as
        published.
        """
        found = load_released(path)
        network = build_segmenter(found.settings, found.num_classes)
        network.load_state_dict(found.teacher or found.student)
        cityscapes = found.num_classes == 19
        metadata = {
            "task": "seg",
            "name": path.stem,
            "class_names": [f"class {number}" for number in range(found.num_classes)],
            "model": found.settings.model_dump(mode="json"),
            "evaluate": EvaluateSettings(window="sliding" if cityscapes else "original").model_dump(mode="json"),
            "crop": 798 if cityscapes else 518,
            "best": {"model": "teacher" if found.teacher else "student", "protocol": "paper", "epoch": found.epoch},
        }
        return network.eval(), metadata

    @classmethod
    def rebuild(cls, metadata: Mapping[str, Any]) -> Network:
        """The network of a weights file."""
        network = build_segmenter(ModelSettings.model_validate(metadata["model"]), len(metadata["class_names"]))
        network.mean, network.std = tuple(metadata["mean"]), tuple(metadata["std"])
        return network

    @classmethod
    def predict(
        cls, network: Network, metadata: Mapping[str, Any], source: str, out: Path, wants: Wants, inference: Inference
    ) -> int:
        """Class-id PNGs with palette for a file, a folder or a glob."""
        return predict_files(network, metadata, source, out, wants, inference)


plugin = Segmentation
