"""Networks scored over batches: what every task does with its `MetricCollection`, whatever it holds.

A metric returns scores by name: tensors (), fractions 0..1, and with the prefix `per_class/` tensors (K,). The first of
each kind in a collection are those that runs are compared by; `threshold` is a setting that was chosen. torchmetrics
takes seconds to import, so this module does without it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from semikit.core.network import Network
from semikit.core.task import Scores
from semikit.distributed.collectives import process_count, sum_over_processes
from semikit.distributed.groups import GO, agreed

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

Batch = TypeVar("Batch")

PER_CLASS = "per_class/"


def scored(
    networks: Mapping[str, Network],
    new_metrics: Callable[[], MetricCollection],
    device: torch.device,
    batches: Iterable[Batch],
    outputs: Callable[[Network, Batch], Iterable[Mapping[str, Any]]],
) -> dict[str, MetricCollection]:
    """The metrics of each network over the batches of all processes, counted on the device and read from it once.

    `outputs` gives what a network makes of a batch, in one part or several; every metric takes the arguments of its
    `update` from them by name. All processes have to call this, also one without batches.
    """
    metrics = {name: new_metrics().to(device) for name in networks}
    for batch in batches:
        for name, network in networks.items():
            for arguments in outputs(network, batch):
                metrics[name].update(**arguments)
    agreed(GO)  # the hosts wait here as long as one has to: what waits on the device is given up after minutes
    sum_states(list(metrics.values()))
    return {name: counted.cpu() for name, counted in metrics.items()}


def sum_states(collections: Sequence[MetricCollection]) -> None:
    """Add the states of all processes up, in one collective; float64 holds counts up to 2**53."""
    if process_count() == 1:
        return
    states = [(metric, *state) for metrics in collections for metric in metrics.values() for state in _states(metric)]
    total = sum_over_processes(torch.cat([value.flatten().double() for _, _, value in states]))
    for metric, name, value in states:
        setattr(metric, name, total[: value.numel()].view_as(value).to(value.dtype))
        total = total[value.numel() :]


def nothing_counted(metrics: MetricCollection) -> bool:
    """Whether all states are 0."""
    return not any(value.any() for metric in metrics.values() for _, value in _states(metric))


def confusion_matrix(metrics: MetricCollection) -> Tensor:
    """The confusion matrix (K, K) that some of the metrics are read off; row = true class."""
    return next(value for metric in metrics.values() for name, value in _states(metric) if name == "matrix")


def _states(metric: Metric) -> list[tuple[str, Tensor]]:
    """The sums of a metric by name; ours have no lists."""
    return [(name, value) for name, value in metric.metric_state.items() if isinstance(value, Tensor)]


def scores_of(metrics: MetricCollection, class_names: Sequence[str]) -> Scores:
    """The results in percent; None where a score is not defined (a class without truth, a precision of what is never
    predicted), as NaN has no place in JSON.
    """
    with warnings.catch_warnings():
        # A process without images of its own never updated its metrics, but has the sums of the others.
        warnings.filterwarnings("ignore", message="The ``compute`` method of metric")
        results = metrics.compute()
    threshold = results.pop("threshold", None)
    values = {name: _percent(float(value)) for name, value in results.items() if not name.startswith(PER_CLASS)}
    classes = {
        name.removeprefix(PER_CLASS): dict(zip(class_names, map(_percent, shares.reshape(-1).tolist()), strict=True))
        for name, shares in results.items()
        if name.startswith(PER_CLASS)
    }
    metric, main = next(iter(values)), next(iter(classes))
    value = values.pop(metric)
    assert value is not None, metric
    return Scores(metric, value, classes.pop(main), values, classes, None if threshold is None else float(threshold))


def _percent(share: float) -> float | None:
    return None if math.isnan(share) else share * 100
