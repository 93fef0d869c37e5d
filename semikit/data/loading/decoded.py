"""Scenes of which no window can be read alone (PNG, JPEG, striped TIFF), and photographs of one class where all find
room, decoded once into files that all workers and processes of a machine map into memory: a crop costs what it shows.

What a crop is cut from is the same, bit for bit. The files lie in a temporary folder that goes with the run; that of a
run that was killed is taken away by the next one on this machine.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from semikit.data.check import target_of
from semikit.data.formats.images import is_raster, read_info
from semikit.data.samples import Samples, spread
from semikit.errors import FileFault
from semikit.raster.reading import is_striped
from semikit.raster.region import Region

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Place = Path | Literal["auto", "none"]
"""Folder for decoded scenes; auto: the temporary one of the system."""

_FREE = 0.25
"""Share of the free space that is taken at most: where the system's folder lies in memory, it is the machine's."""
_LARGER = 4
"""How many times as many pixels as a crop a scene has at least."""
_BAND = 16_000_000
"""Pixels of a striped raster that are decoded at a time."""
_MEMORY = 0.25
"""Share of the machine's memory that photographs take at most: read from a disk they would be slower than decoded."""
_UNSEEN = 64
"""What lies in the folder is counted anew whenever a process wrote one such part of the room that it last found."""
_READ = 32
"""Scenes of which the headers are read to say how large all are."""
_PREFIX = f"semikit-decoded-{socket.gethostname()}-"
_REASONS = {
    "unwritable": "no more decoded scenes can be written (views.cache; is the disk full?): the others are decoded for "
    "every crop. Free space, or give another folder",
    "limit": "the decoded scenes take all the room they are given (views.cache_gb, and a quarter of what was free): "
    "the others are decoded for every crop",
}
"""Names of empty files by which a worker says that it keeps no more, and what is said of it."""


@final
@dataclass(eq=False)
class DecodedScenes:
    """Reads scenes, by their number among the images of a run, through files in `folder`; None: from their own.

    Of scenes of `least` pixels or more at most `limit` bytes are kept, give or take one scene of each worker. Those
    that could not be kept (`refused`) are decoded for every crop, and `news` says so once.
    """

    folder: Path | None
    limit: int = 0
    least: int = 0
    refused: set[str] = field(default_factory=set)
    said: set[str] = field(default_factory=set)
    found: int = 0
    written: int = 0

    def image(self, source: Samples, index: int, region: Region | None) -> tuple[Bytes, Mask | None]:
        """As `source.image`; of a scene that is kept a view of its file."""
        files = source.files(index) if self.folder is not None else ()

        def planes(part: Region | None) -> Bytes:
            image, valid = source.image(index, part)
            bands = np.moveaxis(image, -1, -3).reshape(-1, *image.shape[-3:-1])
            return np.concatenate([bands, _byte_plane(np.ones(bands.shape[1:], np.bool_) if valid is None else valid)])

        kept = self._kept(f"image-{index}", source.extent(index) if files else None, files, region, planes)
        if kept is None:
            return source.image(index, region)
        dates = (len(files),) if len(files) > 1 else ()
        return np.moveaxis(kept[:-1].reshape(*dates, -1, *kept.shape[1:]), -3, -1), kept[-1].view(np.bool_)

    def photograph(self, source: Samples, index: int) -> Bytes:
        """As `source.image` of an image (H, W, 3) that is valid everywhere; the channels of a pixel lie together."""
        files = source.files(index) if self.folder is not None else ()

        def rows(part: Region | None) -> Bytes:
            image, _ = source.image(index)
            return image.reshape(1, len(image), -1)

        kept = self._kept(f"image-{index}", None, files, None, rows)
        return source.image(index)[0] if kept is None else kept.reshape(kept.shape[1], -1, 3)

    def target(
        self, source: Samples, index: int, image: tuple[int, ...], region: Region | None
    ) -> tuple[NDArray[Any], Mask]:
        """As `target_of`; of a scene that is kept a view of its file."""
        files = source.target_files(index) if self.folder is not None else ()

        def planes(part: Region | None) -> Bytes:
            labels, valid = target_of(source, index, image if part is None else (part.height, part.width, 1), part)
            assert labels.dtype == np.uint8, labels.dtype
            return np.concatenate([labels[None], _byte_plane(valid)])

        kept = self._kept(f"target-{index}", source.extent(index) if files else None, files, region, planes)
        return target_of(source, index, image, region) if kept is None else (kept[0], kept[1].view(np.bool_))

    def news(self) -> list[str]:
        """A sentence for each reason for which a scene was not kept, once."""
        if self.folder is None:
            found = {"unwritable"} if self.refused else set[str]()
        else:
            found = {name for name in _REASONS if (self.folder / name).exists()}
        new, self.said = found - self.said, self.said | found
        return [_REASONS[name] for name in sorted(new)]

    def _kept(
        self,
        name: str,
        extent: tuple[int, int] | None,
        files: Sequence[Path],
        region: Region | None,
        planes: Callable[[Region | None], Bytes],
    ) -> Bytes | None:
        """The planes (N, H, W) of a scene or of a region of it, as a view of its file, which is made where it is not
        there; None where it is not kept.
        """
        if self.folder is None or not files or (region is not None and all(map(_has_windows, files))):
            return None
        path = self.folder / f"{name}.npy"
        found = _mapped(path)
        if found is None and name not in self.refused:
            size = extent or _size(files[0])
            if size[0] * size[1] >= self.least and self._add(path, size, planes, whole=extent is None):
                found = _mapped(path)
        return found if found is None or region is None else found[:, *region.slices]

    def _add(self, path: Path, size: tuple[int, int], planes: Callable[[Region | None], Bytes], whole: bool) -> bool:
        """Write the planes of a scene, a striped raster band by band; whether they are there now."""
        height, width = size
        rows = height if whole else max(1, _BAND // width)
        temporary = path.with_name(f"{path.name}-{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                for top in range(0, height, rows):
                    part = planes(None if whole else Region(top, 0, min(rows, height - top), width))
                    shape = (len(part), *(part.shape[1:] if whole else size))  # a photo may be turned
                    if top == 0 and not self._has_room(path.parent, int(np.prod(shape))):
                        return self._refuse(path.stem, "limit")
                    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                    file.seek(0)
                    np.lib.format.write_array_header_1_0(file, header)
                    start = file.tell()
                    for number, plane in enumerate(part):
                        file.seek(start + (number * shape[1] + top) * shape[2])
                        file.write(np.ascontiguousarray(plane).data)
            temporary.replace(path)
        except OSError:  # written plainly, not through a map: there a full disk would kill the process
            return self._refuse(path.stem, "unwritable")
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        return True

    def _has_room(self, folder: Path, count: int) -> bool:
        """Whether so many bytes more may be written; those that other processes write meanwhile are few."""
        if self.written * _UNSEEN >= self.limit - self.found or self.found + self.written + count > self.limit:
            self.found, self.written = _used(folder), 0
        if self.found + self.written + count > self.limit:
            return False
        self.written += count
        return True

    def _refuse(self, name: str, reason: str) -> bool:
        self.refused.add(name)
        assert self.folder is not None
        with suppress(OSError):  # at the end of a run the folder is gone
            (self.folder / reason).touch()
        return False


def _byte_plane(mask: Mask) -> Bytes:
    return mask[None].view(np.uint8)


def _mapped(path: Path) -> Bytes | None:
    try:
        return np.asarray(np.load(path, mmap_mode="r"))  # of a private copy Linux would promise the memory
    except FileNotFoundError:
        return None


@lru_cache(maxsize=4096)
def _size(path: Path) -> tuple[int, int]:
    return read_info(path).size


@lru_cache(maxsize=4096)
def _has_windows(path: Path) -> bool:
    """Whether a window is read without what lies beside it."""
    return is_raster(path) and not is_striped(path)


def _used(folder: Path) -> int:
    total = 0
    for item in os.scandir(folder):
        with suppress(FileNotFoundError):  # renamed meanwhile
            total += item.stat().st_size
    return total


def room(place: Place, gigabytes: float) -> tuple[Path, int] | None:
    """The folder below which decoded scenes are kept, and bytes for them; None where none are kept."""
    if place == "none" or sys.platform == "win32":  # which removes no file that is mapped
        return None
    folder = Path(tempfile.gettempdir()) if place == "auto" else Path(place)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError:  # on another machine of the run; on the first one the folder was tried
        return None
    return folder, min(int(gigabytes * 1e9), int(free * _FREE))


@contextmanager
def decoded_scenes(place: Place, gigabytes: float, crop: int, shared: str | None = None) -> Iterator[DecodedScenes]:
    """Keep decoded scenes while the block runs. `shared` is a name that the processes have in common which the parent
    of this one started; None: there are no others.
    """
    found = room(place, gigabytes)
    if found is None:
        yield DecodedScenes(None)
        return
    base, limit = found
    _remove_abandoned(base)
    try:
        folder = _new_folder(base, shared)
    except OSError:
        yield DecodedScenes(None, refused={"all"})
        return
    owner = os.getpid()
    try:
        yield DecodedScenes(folder, limit, _LARGER * crop * crop)
    finally:
        if os.getpid() == owner:  # not in a worker that was forked meanwhile
            shutil.rmtree(folder, ignore_errors=True)


def _new_folder(base: Path, shared: str | None) -> Path:
    if shared is None:
        return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base))
    folder = base / f"{_PREFIX}{os.getppid()}-{shared}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_mode & 0o077:
        raise PermissionError(f"{folder} is somebody else's")
    return folder


def _remove_abandoned(base: Path) -> None:
    """Take away what killed runs on this machine left."""
    for folder in base.glob(f"{_PREFIX}*"):
        number = folder.name.removeprefix(_PREFIX).partition("-")[0]
        try:
            os.kill(int(number), 0)
        except (ProcessLookupError, ValueError):
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # another user's
            continue


@contextmanager
def decoded_photographs(
    source: Samples, indices: Sequence[int], place: Place, gigabytes: float, shared: str | None = None
) -> Iterator[DecodedScenes]:
    """Keep decoded photographs while the block runs, where `kept_photographs` says that they will be."""
    if kept_photographs(source, indices, place, gigabytes):
        with decoded_scenes(place, _in_memory(gigabytes), 0, shared) as decoded:
            yield decoded
    else:
        yield DecodedScenes(None)


def kept_photographs(source: Samples, indices: Sequence[int], place: Place, gigabytes: float) -> str:
    """What photographs of one class take in the room for them, by at most 32 that are decoded; empty: not all of them
    find room, and none is kept.
    """
    found = room(place, _in_memory(gigabytes))
    sizes = []
    for index in spread(indices, _READ) if found else []:
        with suppress(FileFault):  # which training counts
            sizes.append(source.image(index)[0].nbytes if source.files(index) else 0)
    total = sum(sizes) / max(1, len(sizes)) * len(indices)
    if found is None or not 0 < total <= found[1]:
        return ""
    return (
        f"{len(indices)} photographs, about {total / 1e9:.2g} GB, are decoded once and kept in {found[0]} meanwhile "
        "(views.cache, views.cache_gb)"
    )


def _in_memory(gigabytes: float) -> float:
    """As many gigabytes, or those of a share of the memory of this machine."""
    if sys.platform == "win32":
        return 0.0
    return min(gigabytes, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * _MEMORY / 1e9)


def kept_scenes(source: Samples, indices: Sequence[int], crop: int, place: tuple[Path, int] | None) -> str:
    """How many of some scenes will be kept in the `room` for them, by the headers of at most 32; empty: none."""
    chosen = spread(indices, _READ) if place else []
    sizes = [size for index in chosen if (size := _bytes_of(source, index, _LARGER * crop * crop))]
    if place is None or not sizes:
        return ""
    share = len(indices) / len(chosen)
    count, room_for = f"about {len(sizes) * share:.0f} of {len(indices)} scenes", place[1] / 1e9
    return (
        f"{count}, {sum(sizes) * share / 1e9:.2g} GB, are decoded once and kept in {place[0]} meanwhile, at most "
        f"{room_for:.2g} GB (views.cache, views.cache_gb)"
    )


def _bytes_of(source: Samples, index: int, least: int) -> int:
    """Of the planes of an image as RGB, its valid pixels and its target; 0 where it is not kept."""
    files = source.files(index)
    if not files or (source.extent(index) and all(map(_has_windows, files))):
        return 0
    height, width = _size(files[0])
    return height * width * (3 * len(files) + 1 + 2 * source.has_target(index)) if height * width >= least else 0
