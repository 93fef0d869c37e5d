"""The published data sets in miniature, packed as their originals are: `make(name, folder)`.

64 x 48 pixels, 8 images for training and 3 for validation; shapes whose colours belong to their classes. Of change
detection: scenes, tiles and large rasters of plain blocks, some of them changed at the second date.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from semikit.data.published.catalogue import read_published
from semikit.data.published.preparers.oscd import BANDS

SIZE = (48, 64)

TRAIN, VAL, EXTRA = 8, 3, 4
CLASSES = (1, 2, 3)
"""Besides 0, these classes occur in every miniature."""

Bytes = NDArray[np.uint8]
Scene = tuple[Bytes, Bytes, list[tuple[int, list[float]]]]
"""Image (H, W, 3), classes (H, W), and the shapes from bottom to top: class and polygon."""
Files = dict[str, bytes]


def scene(seed: int) -> Scene:
    """A background of class 0 with three shapes of other classes."""
    rng = np.random.default_rng(seed)
    canvas = Image.new("L", (SIZE[1], SIZE[0]))
    shapes: list[tuple[int, list[float]]] = []
    for number in rng.permutation(CLASSES):
        x, y, w, h = rng.integers(0, 40), rng.integers(0, 26), rng.integers(14, 24), rng.integers(12, 22)
        polygon = [float(v) for v in (x, y, x + w, y, x + w, y + h, x, y + h)]
        ImageDraw.Draw(canvas).polygon(polygon, fill=int(number))
        shapes.append((int(number), polygon))
    classes = np.array(canvas)
    colours = np.array([[70, 90, 110], [200, 60, 60], [60, 190, 70], [220, 210, 80]])
    image = np.clip(colours[classes] + rng.integers(-25, 26, (*SIZE, 3)), 0, 255).astype(np.uint8)
    return image, classes, shapes


def encoded(values: Bytes, kind: str, palette: list[int] | None = None) -> bytes:
    """A file's content: "JPEG" or "PNG"."""
    image = Image.fromarray(values)
    if palette is not None:
        image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


def packed(path: Path, files: Files) -> Path:
    """An archive by its suffix, or a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    elif path.suffix in (".tar", ".tgz"):
        with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    else:
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    return path


def numbered(count: int, start: int = 0) -> Iterable[tuple[int, Scene]]:
    return ((k, scene(k)) for k in range(start, start + count))


def void(classes: Bytes) -> Bytes:
    """With a corner that does not count."""
    marked = classes.copy()
    marked[:4, :4] = 255
    return marked


PALETTE = [value for colour in read_published("pascal").palette for value in colour]


def voc(fine: Iterable[int] = range(TRAIN + VAL)) -> Files:
    """VOCtrainval: images (two of them without any mask), palette masks of `fine`, lists."""
    top, files = "VOCdevkit/VOC2012", Files()
    for k, (image, classes, _) in numbered(TRAIN + VAL + 2):
        files[f"{top}/JPEGImages/{stem(k)}.jpg"] = encoded(image, "JPEG")
        if k in fine:
            files[f"{top}/SegmentationClass/{stem(k)}.png"] = encoded(void(classes), "PNG", PALETTE)
    val = "".join(f"{stem(k)}\n" for k in range(TRAIN, TRAIN + VAL))
    train = "".join(f"{stem(k)}\n" for k in fine if k < TRAIN)
    return {
        **files,
        f"{top}/ImageSets/Segmentation/val.txt": val.encode(),
        f"{top}/ImageSets/Segmentation/train.txt": train.encode(),
        f"{top}/Annotations/{stem(0)}.xml": b"<annotation/>",
    }


def stem(k: int) -> str:
    return f"2007_{k:06d}"


def augmented(folder: str = "SegmentationClassAug") -> Files:
    masks = {f"{folder}/{stem(k)}.png": encoded(void(made[1]), "PNG") for k, made in numbered(TRAIN + VAL)}
    return {f"__MACOSX/{folder}/._{stem(0)}.png": b"Mac OS X", **masks}


def boundaries() -> Files:
    """SBD: all images but two of validation, class numbers shifted by a pixel, nothing void."""
    from scipy.io import savemat

    files = Files()
    for k, (_, classes, _) in numbered(TRAIN + VAL - 2):
        buffer = io.BytesIO()
        savemat(buffer, {"GTcls": {"Boundaries": 0, "Segmentation": np.roll(classes, 1, 0), "CategoriesPresent": 1}})
        files[f"benchmark_RELEASE/dataset/cls/{stem(k)}.mat"] = buffer.getvalue()
    return files


def pascal(folder: Path) -> None:
    packed(folder / "VOCtrainval_11-May-2012.tar", voc((0, 1, *range(TRAIN, TRAIN + VAL))))
    packed(folder / "SegmentationClassAug.zip", augmented())


def pascal_sbd(folder: Path) -> None:
    packed(folder / "VOCtrainval_11-May-2012.tar", voc((0, 1, *range(TRAIN, TRAIN + VAL))))
    packed(folder / "benchmark.tgz", boundaries())


def pascal_authors(folder: Path) -> None:
    packed(folder / "VOCtrainval_11-May-2012.tar", voc((0, 1, *range(TRAIN, TRAIN + VAL))))
    packed(folder / "SegmentationClass.zip", augmented("SegmentationClass"))


LABEL_IDS = np.array([7, 8, 11, 12], dtype=np.uint8)
"""Of road, sidewalk, building, wall."""


def city_names() -> Iterable[tuple[str, str, Scene]]:
    """Part, "CITY/name", scene."""
    for k, made in numbered(TRAIN + VAL):
        part, city = ("train", "aachen" if k % 2 else "jena") if k < TRAIN else ("val", "lindau")
        yield part, f"{city}/{city}_{k:06d}_000019", made


def fine(kind: str) -> Files:
    files = Files()
    for part, name, (_, classes, _) in city_names():
        values = void(classes) if kind == "labelTrainIds" else LABEL_IDS[classes]
        if kind == "labelIds":
            values[:4, :4] = 1
        files[f"gtFine/{part}/{name}_gtFine_{kind}.png"] = encoded(values, "PNG")
        files[f"gtFine/{part}/{name}_gtFine_polygons.json"] = b"{}"
    return files


def left() -> Files:
    top = {"license.txt": b"terms"}
    images = {f"leftImg8bit/{p}/{name}_leftImg8bit.png": encoded(made[0], "PNG") for p, name, made in city_names()}
    return {**top, **images, "leftImg8bit/test/bonn/bonn_000000_000019_leftImg8bit.png": encoded(scene(90)[0], "PNG")}


def cityscapes(folder: Path) -> None:
    packed(folder / "leftImg8bit_trainvaltest.zip", left())
    packed(folder / "gtFine_trainvaltest.zip", {"README": b"terms", **fine("labelIds")})
    extra = {
        f"leftImg8bit/train_extra/augsburg/augsburg_{k:06d}_000000_leftImg8bit.png": encoded(made[0], "PNG")
        for k, made in numbered(EXTRA, 30)
    }
    packed(folder / "leftImg8bit_trainextra.zip", extra)


def cityscapes_authors(folder: Path) -> None:
    packed(folder / "leftImg8bit_trainvaltest.zip", left())
    packed(folder / "gtFine.zip", fine("labelTrainIds"))


def ade_names() -> Iterable[tuple[str, Scene]]:
    for k, made in numbered(TRAIN + VAL):
        part, short = ("training", "train") if k < TRAIN else ("validation", "val")
        yield f"{part}/ADE_{short}_{k + 1:08d}", made


def ade_masks(kind: str, top: str = "") -> Files:
    """ADE20K's masks, "original" (with 0 and 150) or "converted" (with 255 and 149)."""
    files = Files()
    for name, (_, classes, _) in ade_names():
        values = classes + np.uint8(1)
        values[-4:, -4:], values[:4, :4] = 150, 0
        files[f"{top}annotations/{name}.png"] = encoded(values if kind == "original" else values - np.uint8(1), "PNG")
    return files


def ade_images(top: str = "") -> Files:
    return {f"{top}images/{name}.jpg": encoded(made[0], "JPEG") for name, made in ade_names()}


def ade20k(folder: Path) -> None:
    top = "ADEChallengeData2016/"
    files = {**ade_images(top), **ade_masks("original", top), f"{top}objectInfo150.txt": b"Idx\n"}
    packed(folder / "ADEChallengeData2016.zip", files)


def ade20k_authors(folder: Path) -> None:
    packed(folder / "ADEChallengeData2016.zip", ade_images("ADEChallengeData2016/"))
    packed(folder / "annotations.zip", ade_masks("converted"))


GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
CATEGORY_IDS = [number for number in range(1, 91) if number not in GAPS]


def coco_scenes(part: str) -> list[tuple[int, Scene]]:
    return [(k + 1, made) for k, made in (numbered(TRAIN) if part == "train" else numbered(VAL, TRAIN))]


def instances(part: str) -> dict[str, Any]:
    """Top shapes first, as the first in the file wins; a crowd and an image without any instance among them."""
    names = read_published("coco").classes[1:]
    images: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, (_, _, shapes) in coco_scenes(part):
        images.append({"id": number, "file_name": f"{number:012d}.jpg", "height": SIZE[0], "width": SIZE[1]})
        if number == 2:
            continue
        for kind, polygon in reversed(shapes):
            thing = {"image_id": number, "category_id": CATEGORY_IDS[kind - 1], "iscrowd": 0, "area": 1, "bbox": []}
            found.append({**thing, "id": len(found) + 1, "segmentation": [polygon]})
    # Runs go down the columns: two columns at the right are class 80.
    crowd = {"counts": [SIZE[0] * (SIZE[1] - 2), SIZE[0] * 2], "size": list(SIZE)}
    first = {"image_id": images[0]["id"], "category_id": CATEGORY_IDS[-1], "iscrowd": 1, "area": 1, "bbox": []}
    found.append({**first, "id": 999, "segmentation": crowd})
    categories = [{"id": k, "name": name, "supercategory": ""} for k, name in zip(CATEGORY_IDS, names, strict=True)]
    return {"info": {}, "licenses": [], "images": images, "annotations": found, "categories": categories}


def coco_images(part: str) -> Files:
    return {f"{part}2017/{k:012d}.jpg": encoded(made[0], "JPEG") for k, made in coco_scenes(part)}


def coco(folder: Path) -> None:
    packed(folder / "train2017.zip", coco_images("train"))
    packed(folder / "val2017.zip", coco_images("val"))
    texts = {f"annotations/instances_{p}2017.json": json.dumps(instances(p)).encode() for p in ("train", "val")}
    packed(folder / "annotations_trainval2017.zip", {**texts, "annotations/captions_val2017.json": b"{}"})
    extra = {f"unlabeled2017/{k:012d}.jpg": encoded(made[0], "JPEG") for k, made in numbered(EXTRA, 30)}
    packed(folder / "unlabeled2017.zip", extra)


def coco_authors(folder: Path) -> None:
    packed(folder / "train2017.zip", coco_images("train"))
    packed(folder / "val2017.zip", coco_images("val"))
    every = [*coco_scenes("train"), *coco_scenes("val")]
    packed(folder / "masks.zip", {f"masks/{k:012d}.png": encoded(made[1], "PNG") for k, made in every})


SIDE, SCENE, BLOCK = 256, 1024, 32
DATES = ("A", "B", "label")
SCENES = {"train": ("train_1", "train_2"), "val": ("val_1",), "test": ("test_1",)}


def change(seed: int, height: int = SCENE, width: int = SCENE) -> dict[str, Bytes]:
    """Both dates (H, W, 3) in blocks of colours, a fifth of them changed, and the map of change (H, W), 0 and 255."""
    rng = np.random.default_rng(seed)
    shape = (-(-height // BLOCK), -(-width // BLOCK))
    before = rng.integers(0, 256, (*shape, 3))
    changed = rng.random(shape) < 0.2
    after = np.where(changed[..., None], 255 - before, np.clip(before + 9, 0, 255))
    parts = {"A": before, "B": after, "label": changed * 255}
    large = {kind: part.repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width] for kind, part in parts.items()}
    return {kind: part.astype(np.uint8) for kind, part in large.items()}


def trio(name: str, made: dict[str, Bytes], top: str = "") -> Files:
    return {f"{top}{kind}/{name}.png": encoded(values, "PNG") for kind, values in made.items()}


def scenes(part: str) -> dict[str, dict[str, Bytes]]:
    """The scenes of a part by name."""
    return {name: change(1000 * len(part) + int(name[-1])) for name in SCENES[part]}


def levir(folder: Path) -> None:
    for part in SCENES:
        files = [trio(name, made, f"{part}/") for name, made in scenes(part).items()]
        packed(folder / f"{part}.zip", {name: content for of in files for name, content in of.items()})


def tiles(names: Iterable[str]) -> Files:
    """The files of tiles, A/NAME.png and so on."""
    made = [trio(name, change(k, SIDE, SIDE)) for k, name in enumerate(names)]
    return {name: content for files in made for name, content in files.items()}


def levir_tiles(folder: Path) -> None:
    names = [f"{part}_1_{k + 1}" for part, count in (("train", TRAIN), ("val", VAL), ("test", 2)) for k in range(count)]
    packed(folder / "LEVIR-CD.zip", tiles(names))


WHU = {"train": (5, 1, 13, 2, 9, 3, 4, 8), "val": (7, 6, 11), "test": (12, 10)}


def whu_lists(parts: dict[str, tuple[int, ...]] = WHU) -> Files:
    return {
        f"remote-sensing/splits/whu/{part}.txt": "".join(f"whucd_{k:05d}.png\n" for k in numbers).encode()
        for part, numbers in parts.items()
    }


def whu(folder: Path) -> None:
    packed(folder / "WHU-CD.zip", tiles(f"whucd_{k:05d}" for k in range(1, TRAIN + VAL + 3)))
    packed(folder / "UniMatch-V2.zip", whu_lists())


AREAS = {"train": (5 * SIDE + 100, 2 * SIDE + 10), "test": (2 * SIDE + 7, SIDE)}


def raster(path: Path, values: Bytes) -> None:
    """A GeoTIFF of an image (H, W, 3) or a map (H, W)."""
    import rasterio

    bands = values[..., None] if values.ndim == 2 else values
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = rasterio.Affine(0.2, 0.0, 1_570_000.0, 0.0, -0.2, 5_180_000.0)
    place = {"crs": "EPSG:2193", "transform": transform, "compress": "deflate"}
    height, width, count = bands.shape
    with rasterio.open(path, "w", "GTiff", width, height, count, dtype="uint8", **place) as file:
        file.write(np.moveaxis(bands, 2, 0))


def whu_originals(folder: Path) -> None:
    """As they are unpacked, with buildings of one date and small images beside them; maps of change hold 0 and 1."""
    top = folder / "Building change detection dataset_add/1. The two-period image data"
    for seed, (part, size) in enumerate(AREAS.items()):
        made = change(seed, *size)
        for kind, year in (("A", 2012), ("B", 2016)):
            raster(top / f"{year}/whole_image/{part}/image/{year}_{part}.tif", made[kind])
            raster(top / f"{year}/whole_image/{part}/label/{year}_{part}.tif", made["label"])
            raster(top / f"{year}/splited_images/{part}/image/0.tif", made[kind][:64, :64])
        raster(top / f"change_label/{part}/change_label.tif", made["label"] // 255)


def pairs_as_published(name: str) -> Callable[[Path], None]:
    """An archive of a data set whose pairs stay as they are; of DSIFN JPEG, and masks of the test TIFF of 0 and 1."""

    def write(folder: Path) -> None:
        published, files = read_published(name), dict[str, bytes]()
        assert published.layout is not None
        for part, count in (("train", 10), ("val", 2 * ("val" in wanted_parts(name))), ("test", 2)):
            for k in range(count):
                made = change(len(files), 64, 64)
                small = name == "dsifn" and part == "test"
                for place, kind in zip(published.layout, ("A", "B", "label"), strict=True):
                    form = "PNG" if name != "dsifn" else "JPEG" if kind != "label" else "TIFF" if small else "PNG"
                    values = made[kind] // 255 if small and kind == "label" else made[kind]
                    suffix = {"PNG": "png", "JPEG": "jpg", "TIFF": "tif"}[form]
                    files[f"{name.upper()}/{part}/{place}/{k:03}.{suffix}"] = encoded(values, form)
        packed(folder / f"{name}.zip", files)

    return write


def wanted_parts(name: str) -> tuple[str, ...]:
    """The parts that are published."""
    return ("train", "test") if name == "levir-plus" else ("train", "val", "test")


def oscd(folder: Path, cities: Mapping[str, tuple[Bytes, Bytes, Bytes]] | None = None) -> None:
    """Images and labels in three archives; of each city both dates (13, H, W) and the mask (H, W)."""
    import rasterio

    rng = np.random.default_rng(0)
    top, images = "Onera Satellite Change Detection dataset - ", dict[str, bytes]()
    labels: dict[str, Files] = {"Train": {}, "Test": {}}
    for number, name in enumerate(cities or ("abu", "bei", "cup", "dub", "mon", "rio")):
        dates = rng.integers(300, 4000, (2, 13, 40, 48)).astype(np.uint16)
        mask = np.where(rng.random((40, 48)) < 0.2, 255, 0).astype(np.uint8)
        first, second, mask = (cities or {}).get(name, (*dates, mask))
        for date, layers in enumerate((first, second), start=1):
            for band, layer in zip(BANDS, layers, strict=True):
                with rasterio.MemoryFile() as memory:
                    form = {"height": layer.shape[0], "width": layer.shape[1], "count": 1, "dtype": layer.dtype}
                    with memory.open(
                        driver="GTiff",
                        crs="EPSG:32633",
                        transform=rasterio.Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0),
                        **form,
                    ) as file:
                        file.write(layer, 1)
                    images[f"{top}Images/{name}/imgs_{date}_rect/S2A_{name}_{band}.tif"] = memory.read()
        part = "Test" if number >= 4 else "Train"
        labels[part][f"{top}{part} Labels/{name}/cm/cm.png"] = encoded(mask, "PNG")
    packed(folder / f"{top}Images.zip", images)
    for part, files in labels.items():
        packed(folder / f"{top}{part} Labels.zip", files)


MINIATURES: dict[str, Callable[[Path], None]] = {
    **{name: pairs_as_published(name) for name in ("levir-plus", "sysu", "clcd", "dsifn")},
    "oscd": oscd,
    "pascal": pascal,
    "pascal-sbd": pascal_sbd,
    "pascal-authors": pascal_authors,
    "cityscapes": cityscapes,
    "cityscapes-authors": cityscapes_authors,
    "ade20k": ade20k,
    "ade20k-authors": ade20k_authors,
    "coco": coco,
    "coco-authors": coco_authors,
    "levir": levir,
    "levir-tiles": levir_tiles,
    "whu": whu,
    "whu-originals": whu_originals,
}


def make(name: str, folder: Path) -> None:
    """Archives of a data set ("pascal"), or of another form of it ("pascal-sbd")."""
    MINIATURES[name](folder)
