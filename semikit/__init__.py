"""semikit: few labels, many images. The public names; each lives in `semikit.api` unless a line below says otherwise.

    train, plan, evaluate, predict               what `semikit train` (plan: its `--dry-run`), `evaluate`, `predict` do
    export, polygons, report, budget             what `semikit export`, `polygons`, `report`, `budget` do
    rank             semikit.run.rank            what `semikit rank` does
    audit            semikit.run.audit           what `semikit audit` does
    list_methods, list_models, list_datasets, list_presets
    Run              semikit.run.finished        what `train` returns
    load, Model      semikit.run.load            a trained network to predict with
    Exported         semikit.run.export          what `export` returns
    Plan             semikit.run.lifecycle       what `plan` returns
    Prediction       semikit.inference.in_memory what `Model.predict` returns
    Scores           semikit.core.task           what `evaluate` returns
    Reporter         semikit.training.reporter   follows a run
    SemikitError, InputError, ConfigError, UnknownNameError, DataError, WeightsError, RunError     semikit.errors

They are imported on use, so that `import semikit` is light.
"""

import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semikit.api import (
        budget,
        evaluate,
        export,
        list_datasets,
        list_methods,
        list_models,
        list_presets,
        plan,
        polygons,
        predict,
        report,
        train,
    )
    from semikit.core.task import Scores
    from semikit.errors import (
        ConfigError,
        DataError,
        InputError,
        RunError,
        SemikitError,
        UnknownNameError,
        WeightsError,
    )
    from semikit.inference.in_memory import Prediction
    from semikit.run.audit import audit
    from semikit.run.export import Exported
    from semikit.run.finished import Run
    from semikit.run.lifecycle import Plan
    from semikit.run.load import Model, load
    from semikit.run.rank import rank
    from semikit.training.reporter import Reporter

__version__ = "0.1.0"

if "ipykernel" in sys.modules:  # said in a notebook without ipywidgets by tqdm, whose bars are text there
    warnings.filterwarnings("ignore", "IProgress not found")

__all__ = [
    "ConfigError",
    "DataError",
    "Exported",
    "InputError",
    "Model",
    "Plan",
    "Prediction",
    "Reporter",
    "Run",
    "RunError",
    "Scores",
    "SemikitError",
    "UnknownNameError",
    "WeightsError",
    "audit",
    "budget",
    "evaluate",
    "export",
    "list_datasets",
    "list_methods",
    "list_models",
    "list_presets",
    "load",
    "plan",
    "polygons",
    "predict",
    "rank",
    "report",
    "train",
]

_ELSEWHERE = {
    "Exported": "semikit.run.export",
    "Model": "semikit.run.load",
    "Plan": "semikit.run.lifecycle",
    "Prediction": "semikit.inference.in_memory",
    "Reporter": "semikit.training.reporter",
    "Run": "semikit.run.finished",
    "Scores": "semikit.core.task",
    "audit": "semikit.run.audit",
    "load": "semikit.run.load",
    "rank": "semikit.run.rank",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'semikit' has no attribute {name!r}")
    home = "semikit.errors" if name.endswith("Error") else _ELSEWHERE.get(name, "semikit.api")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
