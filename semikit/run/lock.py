"""One writer for a run folder: a lock file that the system frees when its process dies, however it dies.

`filelock` and `portalocker` empty the file when they open it, and with it the name of the process that holds it; and a
forked loader worker would go on holding their lock.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from semikit.errors import InputError
from semikit.files import remove_unfinished

LOCK = ".lock"

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_LOCKED_BYTE = 2**30
"""Windows locks bytes, and nobody else may read them: one far behind the owner's name, which need not exist."""
_held: set[int] = set()


@contextmanager
def sole_writer(folder: Path) -> Iterator[str | None]:
    """Hold a run folder for this process while the block runs, without what killed processes left half written there.

    Gives a notice for the user where the disk has no locks; the folder is not protected then.

    Raises:
        InputError: another process holds it, or nothing can be written there.
    """
    path = folder / LOCK
    try:
        descriptor, notice = _acquired(path)
        os.ftruncate(descriptor, 0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode())
        remove_unfinished(folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(f"cannot write to {folder}: {error.strerror}. Make it writable, or copy the run.") from error
    try:
        yield notice
    finally:
        if descriptor in _held:  # not in a forked process
            if os.name == "nt":  # Windows removes no open file
                _close(descriptor)
            with suppress(OSError):  # one that stays on a disk gone read-only keeps nobody out
                path.unlink()
            if descriptor in _held:
                _close(descriptor)


def refuse_another(folder: Path) -> None:
    """Check that no process holds a run folder.

    Raises:
        InputError: one does; it is named.
    """
    with suppress(FileNotFoundError):
        descriptor = os.open(folder / LOCK, os.O_RDWR)
        try:
            _lock(descriptor, folder / LOCK)
        finally:
            os.close(descriptor)


def _acquired(path: Path) -> tuple[int, str | None]:
    """The descriptor of the lock file at `path`, locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        _held.add(descriptor)
        try:
            notice = _lock(descriptor, path)
            with suppress(FileNotFoundError):  # whoever held it before has taken it away
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor, notice
        except BaseException:
            _close(descriptor)
            raise
        _close(descriptor)


def _lock(descriptor: int, path: Path) -> str | None:
    try:
        _try_to_take(descriptor)
    except (BlockingIOError, PermissionError):
        owner = os.read(descriptor, 400).decode(errors="replace") or "another process"
        raise InputError(
            f"{path.parent} is in use by {owner}. Wait for it or stop it, or choose another folder with --out. If that "
            f"process is gone (a network disk can keep the lock of a machine that died), delete {path} and try again."
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return f"the disk of {path.parent} has no file locks: take care that no second run writes to this folder"
    return None


def _try_to_take(descriptor: int) -> None:
    """Lock an open file without waiting; BlockingIOError (Windows: PermissionError) where another process holds it."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _close(descriptor: int) -> None:
    _held.discard(descriptor)
    os.close(descriptor)


def _let_go() -> None:
    for descriptor in list(_held):
        _close(descriptor)


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_let_go)  # loader workers would keep the lock of a process that died
