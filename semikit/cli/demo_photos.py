"""What the demo compares on one's own photographs: described, chosen, and copied at a size that minutes suffice for."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from semikit.cli.output import progress_bar
from semikit.data.check import LABELLED, Part, check_samples
from semikit.data.reduced import VOID, copy_reduced
from semikit.data.samples import DataParts, Samples, Subset, spread
from semikit.data.spec import FEWEST_CLASSES
from semikit.data.survey.draft import Draft, draft
from semikit.errors import ConfigError, DataError, FileFault, some
from semikit.files import shell_word, write_text
from semikit.models.encoders.create import build_encoder
from semikit.registry import TASKS
from semikit.run import recipes
from semikit.run.build import build_task
from semikit.run.compose import compose
from semikit.run.config import Config, resolve
from semikit.run.folder import remove_empty
from semikit.settings.yaml_text import parse

RECIPE = "small-pretrained"
_LENGTH = {"train": {"iterations": 1000, "eval_every": 250}, "evaluate": {"batch": 20}}
_CROPS = 1.5
"""Greatest side of a copy, in training crops: a crop shows most of an image, and what is in it."""
_SHARE, _FEWEST = 1 / 16, 8
"""Of the images with a mask that are labelled where no number is given; at least so many, if half of them are."""
_UNLABELLED, _VAL, _TEST = 600, 40, 120
"""Images of each kind that are copied, at most."""
_BY_HAND = (
    "Describe images and masks in a YAML (train: {images: DIR, masks: DIR}, val: 0.2, classes: [sky, road]) and give "
    "--photos my.yaml."
)
_DRAFTED = "Describe the folder in a YAML (semikit data init DIR -o my.yaml drafts one) and give --photos my.yaml."


@final
@dataclass(frozen=True)
class Photos:
    """One's own images with masks: as they were given, how their folder was described (None: by a YAML), the
    configuration without method and seed, and the task of each seed on the images as they are.
    """

    given: Path
    drafted: Draft | None
    raw: Mapping[str, Any]
    tasks: Mapping[int, Any]

    @property
    def name(self) -> str:
        """What the data are called."""
        return str(self.raw["name"])

    @property
    def side(self) -> int:
        """Greatest side of a copy, pixels."""
        crop: int = self._first.settings.weak.crop
        return round(_CROPS * crop)

    @property
    def parts(self) -> DataParts:
        """The data set as it is."""
        parts: DataParts = self._first.parts
        return parts

    @property
    def _first(self) -> Any:
        return next(iter(self.tasks.values()))

    def copied(self, folder: Path) -> tuple[dict[int, dict[str, Any]], list[str]]:
        """Write small copies below FOLDER/photos; the configuration of each seed on them, and notices for the user."""
        base = (folder / "photos").absolute()
        if self.drafted is not None:
            write_text(folder / "data.yaml", self.drafted.text)
        excerpts = self._excerpts()
        total = sum(len(indices) for _, _, indices, _ in excerpts)
        faults: list[FileFault] = []
        with progress_bar() as progress:
            count = iter(range(1, total + 1))
            for part, source, indices, masks in excerpts:
                faults += copy_reduced(
                    source, indices, base / part, self.side, masks, lambda: progress("copying", next(count), total)
                )
        for seed, task in self.tasks.items():
            names = [self.parts.train.names[k] for k in task.learned.split.labeled]
            write_text(base / f"labels-{seed}.txt", "".join(f"{name}\n" for name in names))
        notices = self._notices(total - len(faults), base, faults)
        return {seed: self._on_copies(base, seed) for seed in self.tasks}, notices

    def _excerpts(self) -> list[tuple[str, Samples, Sequence[int], bool]]:
        """What is copied: part, samples, which of them, and whether with their masks."""
        pool = self._first.learned.split.pool
        labelled = self._labelled()
        others = sorted({*range(len(pool))} - {*labelled})
        val, test = self._scored()
        return [
            ("train", self.parts.train, labelled, True),
            ("train", pool, spread(others, _UNLABELLED), False),
            ("val", val, range(len(val)), True),
            ("test", test, range(len(test)), True),
        ]

    def _labelled(self) -> list[int]:
        """Images of train that are labelled for any seed."""
        return sorted({index for task in self.tasks.values() for index in task.learned.split.labeled})

    def _scored(self) -> tuple[Samples, Samples]:
        """Those the best is chosen on and those that are read once; without a test part the first third of val and the
        rest, so that neighbours in a film stay together.
        """
        val, test = self._first.learned.val, self._first.learned.test
        if test is not None:
            return _some(val, range(len(val)), _VAL), _some(test, range(len(test)), _TEST)
        third = -(-len(val) // 3)
        return _some(val, range(third), _VAL), _some(val, range(third, len(val)), _TEST)

    def check(self) -> None:
        """Open every image that needs its mask.

        Raises:
            DataError: all that is wrong with them, or too few to validate on.
        """
        val, test = self._scored()
        if not len(test):
            raise DataError(
                f"--photos {self.given}: {len(val)} image is there to validate on; the demo chooses on some and scores "
                "others, so 2 or more are needed. Add images with masks."
            )
        parts = [Part(LABELLED, self.parts.train, self._labelled(), masks=True, learned=True)]
        parts += [Part(name, source, range(len(source)), masks=True) for name, source in (("val", val), ("test", test))]
        check_samples(parts, len(self.parts.class_names))

    def clear_unused(self, folder: Path) -> None:
        """Take away what was copied for runs of which none began."""
        if any(folder.glob("seed-*")):
            return
        shutil.rmtree(folder / "photos", ignore_errors=True)
        (folder / "data.yaml").unlink(missing_ok=True)
        remove_empty(folder)

    def next_lines(self, folder: Path, run: Path) -> list[str]:
        """What to type next."""
        data = self.given if self.drafted is None else folder / "data.yaml"
        count = len(self._first.learned.split.labeled)
        return [
            f"try:         semikit predict {shell_word(run)} {shell_word(folder / 'photos/test/images')} "
            f"-o {shell_word(folder / 'maps')} --overlay",
            f"next:        semikit train seg --data {shell_word(data)} --preset {RECIPE} --labels {count} --dry-run "
            "--time",
        ]

    def _on_copies(self, base: Path, seed: int) -> dict[str, Any]:
        """The configuration of a seed."""
        places = {
            part: {"images": str(base / part / "images"), "masks": str(base / part / "masks")}
            for part in ("train", "val", "test")
        }
        meaning = {"classes": list(self.parts.class_names), "ignore": [VOID]}
        folders = {**places, **meaning, "allow_overlap": self.parts.allow_overlap}
        data: dict[str, Any] = {
            "folders": folders,
            "labels": str(base / f"labels-{seed}.txt"),
            "unlabeled": [],
            "fold": None,
        }
        return recipes.merge(self.raw, {"data": data, "train": {"seed": seed}})

    def _notices(self, copied: int, base: Path, faults: Sequence[FileFault]) -> list[str]:
        val, test = self._scored()
        notices = (
            [] if self.drafted is None else [*self.drafted.notices, *_nameless(self.given, self.parts.class_names)]
        )
        notices.append(
            f"{copied} images were copied to {base}, at most {self.side} pixels a side; all scores are at that size. "
            f"The best is chosen on {len(val)} of them and scored once on another {len(test)}"
        )
        if faults:
            notices.append(f"{len(faults)} unlabelled images could not be read: {some([f.where for f in faults])}")
        return notices


def own_photos(given: Path, above: Mapping[str, Any], seeds: Sequence[int]) -> Photos:
    """What --photos names, described and split for each seed, with all that is needed to train; writes nothing.

    Raises:
        InputError: no folder or YAML of images with masks, weights that are not installed, or labels that cannot be
            chosen.
    """
    drafted = _drafted(given) if given.is_dir() else None
    data: Any = given if drafted is None else parse(drafted.text, "data.yaml")
    raw = compose("seg", data=data, preset=RECIPE, above=recipes.merge(_LENGTH, above))
    raw["name"] = (given if drafted is not None else given.with_suffix("")).resolve().name
    config = resolve(recipes.merge(raw, {"method": {"name": "supervised"}}))
    build_encoder(config.model)  # type: ignore[arg-type]  # where its weights are not to be had, before any copy
    if config.data.labels is None:  # type: ignore[attr-defined]
        raw = recipes.merge(raw, {"data": {"labels": _usual_labels(config)}})

    def tasks(method: str) -> dict[int, Any]:
        each = {seed: {"method": {"name": method}, "train": {"seed": seed}} for seed in seeds}
        return {seed: build_task(resolve(recipes.merge(raw, one))) for seed, one in each.items()}

    photos = Photos(given, drafted, raw, tasks("supervised"))
    if photos.parts.pool is not None:
        raise ConfigError(f"--photos {given}: the demo reads images in files, not shards. Name folders of them.")
    photos.check()
    return replace(photos, tasks=tasks("unimatch_v2"))


def _drafted(folder: Path) -> Draft:
    """A folder as `data init` describes it, with absolute paths.

    Raises:
        DataError: no images with masks, or masks that were not understood.
        ConfigError: labels of another kind or task.
    """
    place = folder.absolute()
    yamls = sorted(path.name for pattern in ("*.yaml", "*.yml") for path in folder.glob(pattern))
    form = f"It holds {some(yamls)}; give that as --photos." if yamls else _BY_HAND
    try:
        found = draft(place, Path(place.anchor, "data.yaml"))
    except DataError as error:
        raise DataError(f"--photos {error} {form}") from error
    if found.task != "seg":
        what = {"cd": "pairs of two dates", "cls": "images of one class each"}[found.task]
        raise ConfigError(
            f"--photos {folder} seems to hold {what}, and the demo on photographs is of images with masks. Train on "
            f"them: semikit train {found.task} --data {shell_word(folder)} --dry-run. Is that wrong? {form}"
        )
    said = parse(found.text, "data.yaml")
    if len(said.get("classes") or said.get("colors") or ()) < FEWEST_CLASSES:
        raise DataError(f"--photos {folder}: {'; '.join(found.notices)}. {_DRAFTED}")
    return found


def _usual_labels(config: Config) -> str:
    """A sixteenth of the images with a mask, or of few images some more."""
    train = TASKS.get("seg").open(config.data).train
    able = sum(train.has_target(k) for k in range(len(train)))
    return str(max(1, round(able * _SHARE), min(_FEWEST, able // 2)))


def _some(source: Samples, indices: Sequence[int], most: int) -> Subset:
    """At most so many of the samples, at even distances."""
    return Subset(source, np.array(spread(indices, most), np.int64))


def _nameless(given: Path, names: Sequence[str]) -> list[str]:
    """A notice where values of masks are taken for classes that nobody named."""
    if list(names) != [f"class {number}" for number in range(len(names))]:
        return []
    return [
        f"each value of the masks, 0 to {len(names) - 1}, counts as a class by its number. Where one is void, or to "
        f"give them names: semikit data init {shell_word(given)} -o my.yaml, write it there, and --photos my.yaml"
    ]
