from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from semikit.errors import WeightsError
from semikit.models.encoders.create import build_encoder
from semikit.models.encoders.encoder import Encoder
from semikit.models.encoders.names import timm_name
from semikit.models.settings import ModelSettings
from semikit.models.weights import hub

NARROW = {"depth": 2, "embed_dim": 32, "num_heads": 2}
ARGS = {
    "dinov2-small": NARROW,
    "dinov2-giant": NARROW,
    "dinov3-small": NARROW,
    "beit-base": NARROW,
    "vit-tiny": NARROW,
    "resnet18": {"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32], "stem_width": 8},
    "convnext-atto": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
    "mobilenetv4-small": {},
}


def whole(name: str, **changes: object) -> dict[str, Tensor]:
    """The state of a whole timm model with its classifier, other than any other's."""
    torch.manual_seed(7)
    model = timm.create_model(timm_name(name), num_classes=3, **{**ARGS[name], **changes})
    return {
        key: torch.randn_like(value) if value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }


def load(name: str, path: Path, **changes: object) -> Encoder:
    torch.manual_seed(8)
    return build_encoder(ModelSettings(encoder=name, weights=str(path), encoder_args=ARGS[name], **changes))


def unexplained(encoder: Encoder, state: dict[str, Tensor]) -> int:
    """Tensors of the encoder that are not, value by value, one of the file."""
    pool = {}
    for value in state.values():
        pool.setdefault(tuple(value.shape), []).append(value)
    constants = {name for name, _ in encoder.named_buffers() if "periods" in name or "k_bias" in name}
    return sum(
        not any(torch.equal(value, other) for other in pool.get(tuple(value.shape), []))
        for name, value in encoder.state_dict().items()
        if value.is_floating_point() and name not in constants
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", ARGS)
def test_timm_names(tmp_path: Path, name: str, suffix: str) -> None:
    state = whole(name)
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    else:
        save_file(state, path)
    assert unexplained(load(name, path), state) == 0


def test_official_dinov2_names(tmp_path: Path) -> None:
    state = whole("dinov2-giant")
    official = {
        key.replace("mlp.fc1.", "mlp.w12.").replace("mlp.fc2.", "mlp.w3."): value
        for key, value in state.items()
        if not key.startswith("head.")
    }
    assert any("w12" in key for key in official)
    torch.save({**official, "mask_token": torch.zeros(1, 32)}, tmp_path / "w.pth")
    encoder = load("dinov2-giant", tmp_path / "w.pth")
    assert torch.equal(encoder.backbone.blocks[1].mlp.fc1.weight, state["blocks.1.mlp.fc1.weight"])
    assert unexplained(encoder, state) == 0
    assert not any("mask_token" in key for key in encoder.state_dict())


def test_encoder_of_a_released_segmenter(tmp_path: Path) -> None:
    state = {key: value for key, value in whole("dinov2-small").items() if not key.startswith("head.")}
    model = {f"module.backbone.{key}": value for key, value in state.items()}
    model |= {"module.backbone.mask_token": torch.zeros(1, 32), "module.head.projects.0.bias": torch.zeros(4)}
    torch.save({"model": model}, tmp_path / "w.pth")
    assert unexplained(load("dinov2-small", tmp_path / "w.pth"), state) == 0


@pytest.mark.parametrize("theirs", ["norm.", "fc_norm."])
def test_either_name_of_the_final_norm(tmp_path: Path, theirs: str) -> None:
    state = whole("beit-base")
    renamed = {key.replace("fc_norm.", theirs): value for key, value in state.items()}
    save_file(renamed, tmp_path / "w.safetensors")
    encoder = load("beit-base", tmp_path / "w.safetensors")
    assert torch.equal(encoder.backbone.norm.weight, state["fc_norm.weight"])


@pytest.mark.parametrize("name", ["vit-tiny", "resnet18"])
def test_four_bands_from_three(tmp_path: Path, name: str) -> None:
    state = whole(name)
    save_file(state, tmp_path / "w.safetensors")
    first = "patch_embed.proj.weight" if name == "vit-tiny" else "conv1.weight"
    encoder = load(name, tmp_path / "w.safetensors", in_channels=4)
    weight = encoder.backbone.get_parameter(first)
    torch.testing.assert_close(weight[:, :3] * 4 / 3, state[first])
    assert unexplained(encoder, state) == 1


@pytest.mark.parametrize("name", ["vit-tiny", "resnet18"])
def test_four_bands_from_four(tmp_path: Path, name: str) -> None:
    state = whole(name, in_chans=4)
    save_file(state, tmp_path / "w.safetensors")
    assert unexplained(load(name, tmp_path / "w.safetensors", in_channels=4), state) == 0


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    state = whole("dinov2-small")
    del state["norm.weight"]
    state["blocks.7.odd"] = torch.zeros(1)
    state["norm.bias"] = torch.zeros(5)
    save_file(state, tmp_path / "w.safetensors")
    message = (
        r"w.safetensors does not fit the encoder: missing: norm.weight; not known to the encoder: blocks.7.odd; "
        r"of another shape: norm.bias \[5\] instead of \[32\]"
    )
    with pytest.raises(WeightsError, match=message):
        load("dinov2-small", tmp_path / "w.safetensors")


def test_positions_of_another_grid_are_not_resampled_silently(tmp_path: Path) -> None:
    save_file(whole("dinov2-small", img_size=70), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"pos_embed \[1, 26, 32\] instead of \[1, 1370, 32\]"):
        load("dinov2-small", tmp_path / "w.safetensors")


def test_weights_of_another_encoder(tmp_path: Path) -> None:
    save_file(whole("resnet18"), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"missing: cls_token, pos_embed, patch_embed.proj.weight and .* more"):
        load("dinov2-small", tmp_path / "w.safetensors")


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("Name or service not known.\nmore")

    monkeypatch.setattr(hub, "urlopen", offline)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    message = (
        r"weights of 'vit_small_patch14_dinov2.lvd142m' could not be loaded \(Name or service not known\). Fetch "
        r"https://huggingface.co/timm/vit_small_patch14_dinov2.lvd142m/resolve/main/model.safetensors .*"
        r"dinov2_vits14_pretrain.pth.* model.weights=vit_small_patch14_dinov2.lvd142m.safetensors; .*model.weights=none"
    )
    with pytest.raises(WeightsError, match=message):
        build_encoder(ModelSettings(encoder="dinov2-small"))


def test_nothing_to_fetch() -> None:
    with pytest.raises(WeightsError, match=r"timm has no pretrained weights for 'resnet.*model.weights=none"):
        build_encoder(ModelSettings(encoder=without_weights()))


def without_weights() -> str:
    known = {name.partition(".")[0] for name in timm.list_pretrained()}
    return next(name for name in timm.list_models("resnet*") if name not in known)
