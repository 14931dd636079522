"""Weight files of others: found as diffusers finds them, read without running their code, refused in a sentence."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

from dtrak_core.errors import DataError, NotFoundError
from dtrak_core.models import model_files, weights
from dtrak_core.models.model_files import TRANSFORMERS, find_weights

NAME = "diffusion_pytorch_model"
WEIGHTS = {"conv.weight": torch.arange(6.0).view(2, 3), "conv.bias": torch.tensor([1.0, -1.0])}


def put(folder: Path, name: str, tensors: dict[str, Tensor] | None = None) -> Path:
    save_file(WEIGHTS if tensors is None else tensors, folder / name)
    return folder / name


def index(folder: Path, name: str, ending: str = "safetensors") -> None:
    shards = [f"{NAME}-0000{number}-of-00002.{ending}" for number in (1, 2)]
    for shard, part in zip(shards, WEIGHTS.items(), strict=True):
        save_file(dict([part]), folder / shard) if ending == "safetensors" else torch.save(dict([part]), folder / shard)
    (folder / name).write_text(json.dumps({"weight_map": dict(zip(WEIGHTS, shards, strict=True))}))


def cut_legacy(end: int) -> bytes:
    """Return the beginning of a file in the format that torch wrote before it wrote zip archives."""
    whole = io.BytesIO()
    torch.save(WEIGHTS, whole, _use_new_zipfile_serialization=False)
    return whole.getvalue()[:end]


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_shards_are_put_together(tmp_path: Path, ending: str) -> None:
    index(tmp_path, f"{NAME}.{ending}.index.json", ending)
    found = weights.read(find_weights(tmp_path, "theirs"), "theirs")
    assert sorted(found) == sorted(WEIGHTS)
    torch.testing.assert_close(found["conv.weight"], WEIGHTS["conv.weight"])
    (tmp_path / f"{NAME}-00002-of-00002.{ending}").unlink()
    with pytest.raises(NotFoundError, match=r"lacks 1 of the 2 files of its weights, diffusion_pytorch_model-00002"):
        find_weights(tmp_path, "theirs")


@pytest.mark.parametrize(
    "names",
    [
        # the file that is taken stands first
        [f"{NAME}.safetensors.index.json", f"{NAME}.safetensors", f"{NAME}.bin"],
        [f"{NAME}.safetensors", f"{NAME}.bin", f"{NAME}.fp16.safetensors"],
        [f"{NAME}.bin", f"{NAME}.fp16.safetensors"],
        [f"{NAME}.fp16.safetensors", f"{NAME}.fp16.bin", f"{NAME}.bf16.safetensors"],
        [f"{NAME}.safetensors.index.fp16.json", f"{NAME}.fp16.bin"],
        [f"{NAME}.fp16.safetensors.index.json"],
        [f"{NAME}.non_ema.safetensors", f"{NAME}_xl.safetensors", "other.safetensors"],
    ],
)
def test_files_are_chosen_as_diffusers_chooses_them(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        index(tmp_path, name) if name.endswith(".json") else (tmp_path / name).touch()
    found = find_weights(tmp_path, "theirs")
    assert [path.name for path in found.paths] == (
        [f"{NAME}-0000{number}-of-00002.safetensors" for number in (1, 2)] if names[0].endswith(".json") else names[:1]
    )
    assert found.variant == next((v for v in ("fp16", "non_ema") if v in names[0]), "")


def test_a_file_of_another_name_is_named(tmp_path: Path) -> None:
    put(tmp_path, "model.safetensors")
    with pytest.raises(NotFoundError, match=r"If model.safetensors holds them, rename it to diffusion_pytorch_model"):
        find_weights(tmp_path, "theirs")
    assert find_weights(tmp_path, "theirs", TRANSFORMERS).paths == (tmp_path / "model.safetensors",)
    with pytest.raises(NotFoundError, match=r"neither diffusion_pytorch_model.safetensors nor .*bin in nowhere/\.$"):
        find_weights(tmp_path / "nowhere", "theirs")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        (f"{NAME}.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Run git lfs pull"),
        (f"{NAME}.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Run git lfs pull"),
        (f"{NAME}.safetensors", b"\n<!DOCTYPE html><html>", "is a web page"),
        (f"{NAME}.safetensors", b"", "is empty"),
        (f"{NAME}.safetensors", save(WEIGHTS)[:-4], "is damaged: it was cut off"),
        (f"{NAME}.safetensors", save(WEIGHTS)[:40], "is damaged: it was cut off"),
        (f"{NAME}.safetensors", save(WEIGHTS) + b"more", "is damaged: it was cut off"),
        (f"{NAME}.safetensors", b"hello, what is this?", "is damaged: it was cut off"),
        (f"{NAME}.bin", b"hello, what is this?", "is damaged: it was cut off"),
        *((f"{NAME}.bin", cut_legacy(end), "is damaged: it was cut off") for end in (1, 18, 28)),
        *((f"{NAME}.bin", first + b"\x00" * 40, "is damaged: it was cut off") for first in (b"R", b".", b"u")),
        (f"{NAME}.bin", pickle.dumps(print, protocol=2), "pickled code, which is not opened"),
    ],
)
def test_what_is_no_weight_file_is_said(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=f"^{name} of 'theirs' .*{said}"):
        weights.read(find_weights(tmp_path, "theirs"), "theirs")


def test_a_link_to_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.safetensors").symlink_to(tmp_path / "blobs" / "gone")
    with pytest.raises(DataError, match=rf"^{NAME}.safetensors of 'theirs' cannot be read \(.*\): a broken link"):
        weights.read(find_weights(tmp_path, "theirs"), "theirs")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_pickles_are_read_for_their_weights_alone(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / f"{NAME}.bin"

    def stored(value: object) -> dict[str, Tensor]:
        torch.save(value, path, _use_new_zipfile_serialization=zipped)
        return weights.read(find_weights(tmp_path, "theirs"), "theirs")

    assert sorted(stored(WEIGHTS)) == sorted(WEIGHTS)
    assert sorted(stored({"state_dict": WEIGHTS, "epoch": 3})) == sorted(WEIGHTS)
    for value, said in [
        (nn.Linear(2, 2), "holds pickled code, which is not opened"),
        ({"model": WEIGHTS, "ema": WEIGHTS}, r"holds several sets of weights \(model, ema\)"),
        ([1, 2], "holds no weights by name"),
        ({"epoch": 3}, "holds no weights by name"),
    ]:
        with pytest.raises(DataError, match=said):
            stored(value)
    stored(WEIGHTS)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="is damaged"):
        weights.read(find_weights(tmp_path, "theirs"), "theirs")


@pytest.mark.parametrize("before", ["_orig_mod.", "module.", "module._orig_mod.", "model."])
def test_what_wrappers_put_before_the_names_is_left_out(tmp_path: Path, before: str) -> None:
    put(tmp_path, f"{NAME}.safetensors", {before + name: value for name, value in WEIGHTS.items()})
    assert sorted(weights.read(find_weights(tmp_path, "theirs"), "theirs")) == sorted(WEIGHTS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float8_e5m2])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    bad = {name: tensor.clone().to(dtype) for name, tensor in WEIGHTS.items()}
    bad["conv.bias"][1] = value
    put(tmp_path, f"{NAME}.safetensors", bad)
    with pytest.raises(DataError, match=r"hold NaN or infinite numbers, conv.bias: its training diverged"):
        weights.read(find_weights(tmp_path, "theirs"), "theirs")


def attention() -> nn.Module:
    block = nn.Module()
    for name in ("to_q", "to_k", "to_v"):
        setattr(block, name, nn.Linear(3, 3))
    block.to_out = nn.ModuleList([nn.Linear(3, 3), nn.Dropout(0.0)])
    return nn.ModuleDict({"attentions": block})


def test_attentions_old_names_are_todays() -> None:
    theirs, ours = attention(), attention()
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    given = {}
    for name, value in theirs.state_dict().items():
        for new, before in old.items():
            name = name.replace(f".{new}.", f".{before}.")
        given[name] = value
    assert "attentions.proj_attn.weight" in given
    weights.fit(ours, given, "theirs")
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attentions.to_q.bias": None}, r"config.json describes: 1 missing, attentions.to_q.bias\. Settings"),
        ({"extra.weight": torch.zeros(2), "more.weight": torch.zeros(2)}, "2 unknown, extra.weight and 1 more"),
        ({"attentions.to_q.bias": torch.zeros(4)}, r"to_q.bias is \[4\] where \[3\] is expected"),
        ({"attentions.to_q.bias": torch.zeros(3, dtype=torch.int8)}, "1 stored as int8, attentions.to_q.bias"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(change: dict[str, Tensor | None], said: str) -> None:
    network = attention()
    before = network.state_dict()["attentions.to_q.weight"].clone()
    changed = {name: torch.zeros_like(value) for name, value in network.state_dict().items()} | change
    given = {name: value for name, value in changed.items() if value is not None}
    with pytest.raises(DataError, match=said) as error:
        weights.fit(network, given, "theirs")
    assert len(str(error.value)) < 400
    torch.testing.assert_close(network.state_dict()["attentions.to_q.weight"], before)


def test_half_weights_are_stored_in_the_networks_format() -> None:
    network = nn.Linear(3, 2)
    weights.fit(network, {"weight": torch.ones(2, 3).half(), "bias": torch.zeros(2).half()}, "theirs")
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "config.json of 'theirs' is a Git LFS pointer"),
        (b"{", "config.json of 'theirs' is not JSON"),
        (b"", "config.json of 'theirs' is empty"),
        (b"[1]", "config.json of 'theirs' is not a JSON object"),
    ],
)
def test_a_config_that_cannot_be_read_is_said(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(DataError, match=said):
        model_files.config_of(tmp_path / "config.json", tmp_path, "theirs")
