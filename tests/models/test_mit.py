from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from semikit.errors import ConfigError, WeightsError
from semikit.models.encoders import mit
from semikit.models.encoders.create import build_encoder
from semikit.models.encoders.mit import Mit, in_layout_of
from semikit.models.encoders.names import ENCODERS, Entry
from semikit.models.settings import ModelSettings
from semikit.models.weights import hub

SMALL = {"depths": (1, 1, 2, 1), "hidden_sizes": (8, 16, 40, 64)}


def encoder(weights: object = "none", **changes: object) -> Mit:
    torch.manual_seed(len(str(weights)))
    settings = {"encoder": "mit-b0", "weights": str(weights), "encoder_args": SMALL, **changes}
    built = build_encoder(ModelSettings(**settings))
    assert isinstance(built, Mit)
    return built


def as_transformers_began(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as in the published files, spelled out a second time."""
    table = {
        ".layernorm_before.": ".layer_norm_1.",
        ".layernorm_after.": ".layer_norm_2.",
        ".attention.q_proj.": ".attention.self.query.",
        ".attention.k_proj.": ".attention.self.key.",
        ".attention.v_proj.": ".attention.self.value.",
        ".attention.o_proj.": ".attention.output.dense.",
        ".attention.sequence_reduction.sequence_reduction.": ".attention.self.sr.",
        ".attention.sequence_reduction.layer_norm.": ".attention.self.layer_norm.",
        ".mlp.fc1.": ".mlp.dense1.",
        ".mlp.fc2.": ".mlp.dense2.",
    }
    renamed = {}
    for name, value in state.items():
        _, stage, rest = name.split(".", 2)
        if rest.startswith("blocks."):
            for now, then in table.items():
                name = name.replace(now, then)
            new = name.replace(f"stages.{stage}.blocks.", f"encoder.block.{stage}.")
        elif rest.startswith("patch_embeddings."):
            new = f"encoder.patch_embeddings.{stage}.{rest.removeprefix('patch_embeddings.')}"
        else:
            new = f"encoder.layer_norm.{stage}.{rest.removeprefix('layer_norm.')}"
        renamed[new] = value
    return renamed


def as_published_by_the_authors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    table = {
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "attention.q_proj": "attn.q",
        "attention.o_proj": "attn.proj",
        "attention.sequence_reduction.sequence_reduction": "attn.sr",
        "attention.sequence_reduction.layer_norm": "attn.norm",
    }
    renamed = {}
    for name, value in state.items():
        _, stage, rest = name.split(".", 2)
        number = int(stage) + 1
        part, _, kind = rest.rpartition(".")
        if rest.startswith("blocks."):
            block, part = part.removeprefix("blocks.").split(".", 1)
            if part == "attention.v_proj":
                continue
            if part == "attention.k_proj":
                part, value = "attn.kv", torch.cat((value, state[name.replace("k_proj", "v_proj")]))
            renamed[f"block{number}.{block}.{table.get(part, part)}.{kind}"] = value
        elif part == "layer_norm":
            renamed[f"norm{number}.{kind}"] = value
        else:
            own = {"patch_embeddings.proj": "proj", "patch_embeddings.layer_norm": "norm"}[part]
            renamed[f"patch_embed{number}.{own}.{kind}"] = value
    return renamed


def present(module: torch.nn.Module) -> dict[str, Tensor]:
    """The state under the names transformers uses now."""
    now = type("Now", (), {"stages": ()})
    return {in_layout_of(now, name): value for name, value in module.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_levels() -> None:
    built = encoder()
    assert (built.widths, built.reductions, built.multiple) == ((8, 16, 40, 64), (4, 8, 16, 32), 1)
    levels = built(torch.randn(2, 3, 65, 49))
    assert [tuple(level.shape) for level in levels] == [(2, 8, 17, 13), (2, 16, 9, 7), (2, 40, 5, 4), (2, 64, 3, 2)]


def test_the_last_level_is_what_transformers_returns() -> None:
    built = encoder().eval()
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(built(images)[-1], built.backbone(images).last_hidden_state)


def test_images_that_are_too_small() -> None:
    built = encoder()
    assert built(torch.zeros(1, 3, 29, 29))[0].shape[-1] == 8
    with pytest.raises(ConfigError, match="an image of 40x28: a mix transformer needs sides of at least 29"):
        built(torch.zeros(1, 3, 40, 28))


def test_training_draws_nothing() -> None:
    built = encoder()
    images = torch.randn(2, 3, 32, 32)
    before = torch.get_rng_state()
    assert torch.equal(built(images)[3], built(images)[3])
    assert torch.equal(torch.get_rng_state(), before)
    assert built.training


@pytest.mark.long
def test_compiled_whole() -> None:
    built = encoder()
    images = torch.randn(2, 3, 64, 32)
    compiled = torch.compile(built, fullgraph=True, backend="eager")
    for level, expected in zip(compiled(images), built(images), strict=True):
        torch.testing.assert_close(level, expected)


@pytest.mark.parametrize("layout", [dict, as_transformers_began, as_published_by_the_authors])
@pytest.mark.parametrize("owner", ["", "segformer.", "backbone."])
def test_files_of_every_layout(tmp_path: Path, layout: object, owner: str) -> None:
    given = present(encoder().backbone)
    state = {owner + name: value for name, value in layout(given).items()}  # type: ignore[operator]
    assert len(state) == (len(given) if layout is not as_published_by_the_authors else len(given) - 10)
    head = {"head.weight": torch.zeros(3, 64), "classifier.bias": torch.zeros(3), "decode_head.x": torch.zeros(1)}
    save_file({name: value.contiguous() for name, value in (state | head).items()}, tmp_path / "w.safetensors")
    assert equal(present(encoder(tmp_path / "w.safetensors").backbone), given)


def test_a_checkpoint_of_another_version_of_transformers() -> None:
    source, target = encoder(), encoder(weights="none", encoder_args=SMALL | {"drop_path_rate": 0.1})
    old = {f"backbone.{name}": value + 1 for name, value in as_transformers_began(present(source.backbone)).items()}
    target.load_state_dict(old)
    assert all(torch.equal(v, old[f"backbone.{k}"]) for k, v in as_transformers_began(present(target.backbone)).items())
    del old["backbone.encoder.layer_norm.0.bias"]
    with pytest.raises(RuntimeError, match=r"Missing key.*layer_norm"):
        target.load_state_dict(old)


def test_files_of_another_size(tmp_path: Path) -> None:
    save_file(present(encoder().backbone), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"w.safetensors does not fit the encoder: missing: .*of another shape"):
        encoder(tmp_path / "w.safetensors", encoder_args={**SMALL, "depths": (1, 1, 3, 1), "hidden_sizes": (8,) * 4})


def test_four_bands_from_three(tmp_path: Path) -> None:
    given = present(encoder().backbone)
    save_file(given, tmp_path / "w.safetensors")
    built = encoder(tmp_path / "w.safetensors", in_channels=4)
    first = "stages.0.patch_embeddings.proj.weight"
    torch.testing.assert_close(present(built.backbone)[first][:, :3] * 4 / 3, given[first])
    assert built(torch.randn(1, 4, 32, 32))[0].isfinite().all()
    assert len(built.mean) == 4


def published(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """A published classifier in a folder that stands for the hub; its encoder's state."""
    torch.manual_seed(5)
    model = transformers.SegformerForImageClassification(transformers.SegformerConfig(**SMALL))
    model.save_pretrained(folder)
    monkeypatch.setitem(ENCODERS, "mit-b0", Entry(str(folder), 3.3, library="transformers"))
    monkeypatch.setattr(mit, "reach_hub", lambda *_: None)
    return present(model.segformer)


@pytest.mark.parametrize("channels", [3, 5])
def test_published_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], channels: int
) -> None:
    expected = published(tmp_path, monkeypatch)
    built = encoder("pretrained", accept_licence=True, in_channels=channels)
    found = present(built.backbone)
    first = "stages.0.patch_embeddings.proj.weight"
    assert found.pop(first).shape[1] == channels
    expected.pop(first)
    assert equal(found, expected)
    assert built.training
    assert "classifier" not in "".join(capfd.readouterr())
    assert logging.getLogger("transformers").level != logging.ERROR


def test_published_weights_that_lack_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(tmp_path, monkeypatch)
    with pytest.raises(WeightsError, match=r"lacks weights of mit-b0 \(.*stages.2.blocks.2"):
        encoder("pretrained", accept_licence=True, encoder_args={**SMALL, "depths": (1, 1, 3, 1)})


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("Name or service not known.\nmore")

    monkeypatch.setattr(hub, "urlopen", offline)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    message = (
        r"weights of 'mit-b0' could not be loaded \(Name or service not known\). Fetch "
        r"https://huggingface.co/nvidia/mit-b0/resolve/main/pytorch_model.bin .* "
        r"model.weights=mit-b0.bin; .*model.weights=none"
    )
    with pytest.raises(WeightsError, match=message):
        encoder("pretrained", accept_licence=True)


def test_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r'mit-b0 is built by transformers, .*pip install "semikit\[mit\]"'):
        encoder()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_args": {"deepths": [1]}}, r"mit-b0 cannot be built with .*: unknown deepths. Give encoder_args"),
        ({"encoder_args": {"depths": [1, 1]}}, "cannot be built with"),
        ({"encoder_args": {"hidden_sizes": "wide"}}, "cannot be built with"),
        ({"encoder_layers": (0, 1, 2, 3)}, "is a pyramid; leave it unset"),
        ({"output_stride": 16}, "mit-b0 cannot be dilated"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        encoder(**changes)
