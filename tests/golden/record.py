"""Record `losses.json` anew: `python -m tests.golden.record`. Only for a change that alters numbers on purpose."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch

from tests.golden import cases
from tests.helpers import icons, pairs, photos

MAKERS = {"seg": photos, "cd": pairs, "cls": icons}


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = {task: (module, module.write(folder / task)) for task, module in MAKERS.items()}
        losses = {case: cases.losses(case, small, folder) for case in cases.CASES}
    text = json.dumps({"environment": cases.environment(), "losses": losses}, indent=1)
    cases.VALUES.write_text(text + "\n")


if __name__ == "__main__":
    main()
