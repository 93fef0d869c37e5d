"""Services that a run's numbers go to beside TensorBoard (`train.log`), each of them an extra."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

from semikit.errors import ConfigError, RunError

Log = Callable[[Mapping[str, float], int], Any]


@final
class Service:
    """Weights & Biases (`wandb`, project semikit; a run that goes on is another one of the same group) or MLflow
    (`mlflow`, experiment semikit, where MLFLOW_TRACKING_URI says), for the run in a folder.
    """

    def __init__(self, name: str, folder: Path, config: Mapping[str, Any]) -> None:
        self.name = name
        self._log, self.close = self._called({"wandb": _wandb, "mlflow": _mlflow}[name], folder, config)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by their name, after so many steps; raises RunError where they cannot be sent."""
        self._called(self._log, values, step)

    def _called(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Exception as error:  # their errors (no account, no server) have no base of their own
            reason = str(error).strip().partition("\n")[0]
            raise RunError(
                f"train.log={self.name}: {reason}. Mend it, or go on with --resume RUN train.log=null."
            ) from error


def _wandb(folder: Path, config: Mapping[str, Any]) -> tuple[Log, Callable[[], Any]]:
    import wandb

    name = folder.name
    run = wandb.init(project="semikit", name=name, group=name, dir=str(folder), config=dict(config))
    return lambda values, step: run.log(dict(values), step=step), run.finish


def _mlflow(folder: Path, config: Mapping[str, Any]) -> tuple[Log, Callable[[], Any]]:
    import mlflow

    mlflow.set_experiment("semikit")
    mlflow.start_run(run_name=folder.name)
    mlflow.log_dict(dict(config), "config.yaml")

    def log(values: Mapping[str, float], step: int) -> None:  # under names of the letters that it takes
        mlflow.log_metrics({re.sub(r"[^\w\-./ ]", "_", name): value for name, value in values.items()}, step=step)

    return log, mlflow.end_run


def check_service(name: str | None) -> None:
    """Raise ConfigError for a service whose package is not installed."""
    if name is not None and find_spec(name) is None:
        raise ConfigError(f"train.log={name}: its package is not installed. pip install 'semikit[{name}]'")
