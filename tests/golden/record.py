"""Record `losses.json` anew: `python tests/golden/record.py`. Only for a change that alters numbers on purpose."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from pathlib import Path
from types import ModuleType

import torch

HERE = Path(__file__).parent


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    torch.set_num_threads(1)
    cases = load(HERE / "cases.py")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        makers = {task: load(HERE.parent / "contracts" / f"{maker}.py") for task, maker in MAKERS.items()}
        small = {task: (module, module.write(folder / task)) for task, module in makers.items()}
        losses = {case: cases.losses(case, small, folder) for case in cases.CASES}
    text = json.dumps({"environment": cases.environment(), "losses": losses}, indent=1)
    cases.VALUES.write_text(text + "\n")


MAKERS = {"seg": "photos", "cd": "pairs", "cls": "icons"}

if __name__ == "__main__":
    main()
