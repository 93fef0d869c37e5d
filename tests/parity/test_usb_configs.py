"""Presets of USB's recipes hold the values of its configuration files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semikit.run.config import Config, resolve
from semikit.run.recipes import compose

_STORED = json.loads((Path(__file__).parent / "data" / "usb_configs.json").read_text(encoding="utf-8"))
_NETWORKS = {"wrn-28-2": "wrn_28_2", "wrn-28-8": "wrn_28_8", "wrn-stl": "wrn_var_37_2"}


def _common(config: Config) -> dict[str, Any]:
    train, optimizer, method = config.train, config.optimizer, config.method
    return {
        "net": _NETWORKS[config.model.encoder],
        "num_labels": int(str(config.data.labels)),
        "num_train_iter": train.iterations,
        "num_eval_iter": train.eval_every,
        "batch_size": train.batch,
        "uratio": train.ratio,
        "amp": train.precision != "fp32",
        "optim": optimizer.name.upper(),
        "lr": optimizer.lr,
        "momentum": optimizer.momentum,
        "weight_decay": optimizer.weight_decay,
        "ema_m": method.ema_decay,
    }


def _own(name: str, method: Any) -> dict[str, Any]:
    """What USB's file of a method says besides; T belongs to soft labels, except in SimMatch's similarities."""
    if name == "simmatch":
        return {
            **{"p_cutoff": method.threshold, "ulb_loss_ratio": method.weight, "in_loss_ratio": method.instance_weight},
            **{"proj_size": method.width, "da_len": method.alignment.length, "smoothing_alpha": method.smoothing},
            **{"T": method.instance_temperature, "use_epass": method.projections == 3},
        }
    if name == "dash":
        assert (method.fall_every, method.initial, method.alignment) == (10 * 1024, None, None)  # 10 epochs
        return {
            **{"gamma": method.fall, "C": method.factor, "rho_min": method.minimum, "num_wu_iter": method.warmup},
            **{"T": method.soft_labels, "ulb_loss_ratio": method.weight, "p_cutoff": 0.95},
        }
    if name == "comatch":
        return {
            **{"p_cutoff": method.threshold, "ulb_loss_ratio": method.weight, "hard_label": method.soft_labels is None},
            **{"proj_size": method.width, "da_len": method.alignment.length, "smoothing_alpha": method.smoothing},
            **{"T": method.instance_temperature, "use_epass": method.projections == 3},
            **{"contrast_p_cutoff": method.graph_threshold, "contrast_loss_ratio": method.contrast_weight},
            "queue_batch": method.bank / (64 + 448),
        }
    if name == "remixmatch":
        alignment = method.alignment  # p_target_type "gt" and the default momentum, in the algorithm's file
        assert (alignment.kind, alignment.target, alignment.momentum) == ("ema", "labels", 0.999)
        return {
            **{"mixup_alpha": method.mixup, "T": method.soft_labels, "ulb_loss_ratio": method.weight},
            **{"kl_loss_ratio": method.unmixed_weight, "rot_loss_ratio": method.rotation_weight},
            "unsup_warm_up": method.ramp,
        }
    assert name in ("freematch", "softmatch") or method.weight == 1
    found = {"hard_label": method.soft_labels is None, "T": 0.5}
    if name == "freematch":
        found |= {
            "ema_p": method.momentum,
            "ent_loss_ratio": method.fairness,
            "use_quantile": method.quantile is not None,
        }
        return found | ({"clip_thresh": True} if method.cap == 0.95 else {})
    found["ulb_loss_ratio"] = method.weight
    if name == "softmatch":
        alignment = method.alignment
        uniform = alignment.target == "uniform" and alignment.momentum == method.momentum
        found |= {"dist_align": alignment.kind == "ema", "dist_uniform": uniform, "per_class": False}
        return found | {"ema_p": method.momentum, "n_sigma": method.deviations}
    if name == "adamatch":
        assert (method.alignment.kind, method.alignment.target) == ("ema", "labeled")
        found["ema_p"] = method.alignment.momentum
    else:
        assert method.alignment is None
    found["p_cutoff"] = method.threshold
    return found | ({"thresh_warmup": method.warmup} if name == "flexmatch" else {})


@pytest.mark.parametrize("cell", _STORED["each"])
def test_a_preset_has_the_values_of_its_file(cell: str) -> None:
    name, dataset, _ = cell.split("-")
    config = resolve(compose("cls", preset=f"usb-{cell}"))
    assert (config.method_name, config.name, config.train.protocol) == (name, dataset, "paper")
    assert config.optimizer.nesterov
    assert config.optimizer.schedule == "cosine"
    stored = {**_STORED["common"], **_STORED["each"][cell]}
    assert not stored.pop("clip")  # an option that is not in this package, as the next
    assert not stored.pop("use_refix", False)
    assert {**_common(config), **_own(name, config.method)} == stored
