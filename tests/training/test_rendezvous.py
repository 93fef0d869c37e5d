"""Processes that start together find each other in a store that those of before have used."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch
from torch.distributed import DistStoreError, HashStore, Store

from semikit.distributed import groups
from semikit.distributed.groups import scoped_store


def meet(store: Store, rank: int, count: int, late: float) -> Store:
    time.sleep(late)
    return scoped_store(store, rank, count)


@pytest.mark.parametrize("late", [0, 1, 2])
def test_each_start_has_a_store_of_its_own(late: int) -> None:
    """Also where one is so late that all others have read what those of before have left."""
    store = HashStore()
    store.set_timeout(timedelta(seconds=20))
    seen = []
    with ThreadPoolExecutor(3) as processes:
        for start in range(3):
            coming = [processes.submit(meet, store, rank, 3, 0.3 * (rank == late)) for rank in range(3)]
            own = [process.result(timeout=30) for process in coming]
            assert not any(part.check(["address"]) for part in own)
            own[late].set("address", str(start))
            seen.append([part.get("address") for part in own])
    assert seen == [[str(start).encode()] * 3 for start in range(3)]


@pytest.mark.parametrize(("device", "gpus", "wanted"), [("auto", 2, "cuda:1"), ("cpu", 2, None), ("auto", 0, None)])
def test_nccl_is_given_its_device(device: str, gpus: int, wanted: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, object]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", lambda local: None)
    monkeypatch.setattr(groups, "rendezvous", lambda _: iter([(HashStore(), 0, 1)]))
    monkeypatch.setattr(groups.dist, "init_process_group", lambda *a, **k: asked.append((a[0], k["device_id"])))
    monkeypatch.setattr(groups.dist, "new_group", lambda **_: None)
    monkeypatch.setattr(groups.dist, "destroy_process_group", lambda: None)
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with groups.joined(device):
        pass
    backend = "gloo" if wanted is None else "nccl"
    assert asked == [(backend, None if wanted is None else torch.device(wanted))]


def test_who_does_not_come_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_JOIN_TIMEOUT", timedelta(seconds=0.2))
    store = HashStore()
    store.set("asked/1", "of before")
    with pytest.raises(DistStoreError, match="1 of 2 processes came"):
        scoped_store(store, 0, 2)
