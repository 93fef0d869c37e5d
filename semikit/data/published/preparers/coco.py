"""COCO 2017: images, and masks of 81 classes drawn from the instance annotations, or the authors' masks.

Background is 0, the 80 things are 1..80 in the order of their category ids. Where instances overlap, the first in the
order of the file wins. Regions of crowds are drawn like instances. The published masks of the authors
were drawn by a script that is not public, so pixels where instances overlap may differ.
"""

from __future__ import annotations

from semikit.data.published.catalogue import Published
from semikit.data.published.inputs import Inputs, Progress
from semikit.data.published.prepared import Pair
from semikit.data.published.preparers import Job, Plan, Preparer, counted, jobs_for, paired, targets
from semikit.data.published.preparers._instances import Instances, draw_all, read_instances

_IMAGES = r"(train2017|val2017|unlabeled2017)/(\d{12})\.jpg"
_MASKS = r"masks/(\d{12})\.png"
_STUFF = r"(?:train2017|val2017)/\d{12}(?:_labelTrainIds)?\.png"
_INSTANCES = r"instances_(train|val)2017\.json"
_REMEDY = "Give the images and annotations_trainval2017.zip (or the authors' masks), both whole."

_MASK_BYTES = 12_000
"""About what a mask of COCO takes as PNG."""


def plan(inputs: Inputs, published: Published, progress: Progress) -> Plan:
    """Train, val, and unlabeled without masks; annotations are read where masks are missing.

    Raises:
        DataError: images that have neither a mask nor annotations; annotations that are not COCO's.
        ConfigError: pycocotools is needed and not installed.
    """
    images = jobs_for(inputs.find(_IMAGES), lambda m: (m[1], m[2]), lambda m: f"{m[1]}/{m[2]}.jpg", keep=False)
    masks = jobs_for(inputs.find(_MASKS), lambda m: m[1], lambda m: f"masks/{m[1]}.png")
    annotations = {match[1]: found for match, found in reversed(inputs.find(_INSTANCES))}
    remedy = _REMEDY + (" Maps of COCO-Stuff (171 classes) are other masks." if inputs.find(_STUFF) else "")
    pairs: dict[str, list[Pair]] = {}
    jobs: list[Job] = list(images.values())
    drawn: list[Instances] = []
    for part in ("train", "val"):
        own = {stem: job for (folder, stem), job in images.items() if folder == f"{part}2017"}
        given = {stem: masks[stem] for stem in own if stem in masks}
        known = targets(given)
        if len(given) < len(own) and part in annotations:
            progress(f"reading {annotations[part].name}", 0, 1)
            (content,) = (data for _, data in inputs.read([annotations[part]]))
            drawn.append(read_instances(content, annotations[part].where, own.keys() - given.keys(), published))
            known |= {stem: f"masks/{stem}.png" for stem in drawn[-1].shapes}
        pairs[part] = paired(part, own, known, remedy)
        jobs += given.values()
    pairs["unlabeled"] = [(job.target, None) for (folder, _), job in images.items() if folder == "unlabeled2017"]
    made = sum(len(instances.shapes) for instances in drawn)
    given_masks = len(pairs["train"]) + len(pairs["val"]) - made
    how = "drawn from instances, the first in the file on top, crowds included"
    told = counted({"as given": given_masks, how: made})

    def after(progress: Progress) -> None:
        draw_all(inputs.root / "masks", drawn, progress)

    return Plan(pairs, jobs, told, after=after if drawn else None, after_bytes=made * _MASK_BYTES)


plugin = Preparer(
    "train2017/*.jpg, val2017/*.jpg, unlabeled2017/*.jpg and instances_{train,val}2017.json "
    "(annotations_trainval2017.zip), or the authors' masks/*.png",
    plan,
)
