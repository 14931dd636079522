"""What a model is, said before it is taken in; what cannot be used is refused by what it is."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_store
import text_helpers
import torch
from safetensors.torch import save_file

from dtrak_core import store
from dtrak_core.commands import answers, cli
from dtrak_core.engine import work
from dtrak_core.errors import DataError, NotFoundError
from dtrak_core.models import importing, looks, recognising
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.single_files import UNET, VAE
from dtrak_core.progress import quiet

DEMO = store.PROJECT / "cache" / "demo"
BASE = next((DEMO / "bases").glob("*/pipeline"))
WEIGHTS = BASE / "unet" / "diffusion_pytorch_model.safetensors"
LORA = next(DEMO.glob("checkpoints/*/*/pytorch_lora_weights.safetensors"))
TEXT = "cond_stage_model.transformer.text_model.embeddings.weight"


def saved(path: Path, *names: str, **metadata: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: torch.zeros(4, 8) for name in names}, path, metadata=metadata or None)
    return path


def test_a_network_of_pixels_is_described(checkpoint: Checkpoint) -> None:
    (checkpoint.folder / "README.md").write_text("---\nlicense: mit\n---\n")
    found = recognising.recognise(str(checkpoint.folder))
    assert (found.takes, found.side) == ("pixels", 16)
    parameters = checkpoint.run.manifest["parameters"]
    assert found.facts == {
        "Model": "unconditional network of pixels (UNet2DModel)",
        "pictures": "16 px",
        "channels": "12, folded 2 × 2",
        "predicts": "the noise",
        "schedule": "1,000 timesteps, betas linear",
        "parameters": f"{parameters:,}",
        "licence": "mit",
    }
    assert found.disk == 4 * parameters


def test_a_base_is_described() -> None:
    found = recognising.recognise(str(BASE))
    assert (found.takes, found.side) == ("base", 32)
    assert found.facts["Model"].startswith("Stable Diffusion 1 or 2, a text-to-image model")
    assert found.facts["predicts"] == "the clean picture"
    assert found.facts["parameters"].endswith(" M")


def test_a_base_with_an_unknown_autoencoder_is_refused_in_a_sentence(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(text_helpers.saved(), tmp_path / "other"))
    config = folder / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_class_name": "AsymmetricAutoencoderKL"}))
    with pytest.raises(DataError, match="The autoencoder of 'other' is a AsymmetricAutoencoderKL"):
        recognising.recognise(str(folder))


def test_a_base_of_larger_pictures_than_can_be_used_is_described(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(text_helpers.saved(), tmp_path / "large"))
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": 256}))
    found = recognising.recognise(str(folder))
    assert (found.takes, found.side) == ("base", 1024)
    assert found.facts["pictures"] == "1024 px, in colours; taken in at 512 px or less"
    monkeypatch.setattr(answers, "completed", lambda job, _label: work.run(job, quiet))
    assert cli.main(["look", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["taken in by"].endswith("--name NAME --resolution 512")


@pytest.mark.parametrize("part", ["unet", "transformer", "text_encoder_2"])
def test_pefts_folders_are_recognised_for_every_family(tmp_path: Path, part: str) -> None:
    names = [f"base_model.model.blocks.0.to_q.lora_{side}.weight" for side in "AB"]
    file = saved(tmp_path / part / "adapter_model.safetensors", *names)
    (file.parent / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/flux"}))
    found = recognising.recognise(str(tmp_path))
    assert (found.takes, found.facts["written by"], found.facts["trained on"]) == ("lora", "PEFT", "owner/flux")


def test_all_of_pefts_folders_are_counted(tmp_path: Path) -> None:
    names = [f"base_model.model.layers.0.q_proj.lora_{side}.weight" for side in "AB"]
    for part in ("unet", "text_encoder", "text_encoder_2"):
        saved(tmp_path / part / "adapter_model.safetensors", *names)
        (tmp_path / part / "adapter_config.json").write_text("{}")
    found = recognising.recognise(str(tmp_path))
    assert found.facts["Model"] == "LoRA weights of 3 layers, 2 of them in text encoders"
    assert (found.facts["written by"], found.facts["parameters"], found.disk) == ("PEFT", "192", 768)


def test_the_size_of_a_download_is_left_out_where_the_hub_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in importing.UNANSWERED:

        def unanswered(*_args: object, kind: type[Exception] = kind, **_more: object) -> None:
            raise kind.__new__(kind)

        monkeypatch.setattr(recognising.HfApi, "model_info", unanswered)
        assert recognising._downloaded("owner/name") == ""


def test_lora_weights_are_described(tmp_path: Path) -> None:
    found = recognising.recognise(str(LORA))
    assert (found.takes, found.facts["rank"], found.facts["written by"]) == ("lora", "32", "diffusers")
    assert found.facts["Model"].startswith("LoRA weights of ")
    assert recognising.recognise(str(LORA.parent)).takes == "lora"
    names = [f"lora_{part}_layer.{side}" for part in ("unet", "te") for side in ("lora_down.weight", "lora_up.weight")]
    kohya = saved(tmp_path / "kohya.safetensors", *names, ss_sd_model_name="sd15.safetensors")
    told = recognising.recognise(str(kohya)).facts
    assert told == {
        "Model": "LoRA weights of 2 layers, 1 of them in text encoders",
        "written by": "kohya's trainers",
        "rank": "4",
        "trained on": "sd15.safetensors",
        "parameters": "128",
    }


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((f"{UNET}a", f"{VAE}b", TEXT), "Stable Diffusion 1.x, a text-to-image model in a single file"),
        ((f"{UNET}a", f"{VAE}b", TEXT, "model_ema.a"), "Stable Diffusion 1.x, a text-to-image model in a single file"),
    ],
)
def test_a_single_file_is_told_by_its_names(tmp_path: Path, names: tuple[str, ...], told: str) -> None:
    found = recognising.recognise(str(saved(tmp_path / "sd.safetensors", *names)))
    assert (found.takes, found.facts["Model"], found.facts["predicts"]) == ("base", told, "the noise")
    assert bool(found.assumed) == (len(names) == 4)


def web_page(place: Path) -> Path:
    (place / "a.safetensors").write_text("<!doctype html>")
    return place / "a.safetensors"


def code(place: Path) -> Path:
    torch.save({"lora_a": Path("x")}, place / "a.bin")
    return place / "a.bin"


def other_pipeline(place: Path) -> Path:
    (place / "model_index.json").write_text(json.dumps({"_class_name": "LDMPipeline"}))
    return place


REFUSED: list[tuple[Callable[[Path], Path], str]] = [
    (web_page, "is a web page, not the file itself"),
    (code, "holds pickled code, which is not opened"),
    (other_pipeline, "a latent diffusion model"),
    (lambda place: saved(place / "a.safetensors", "x.hada_w1_a"), "holds LoHa weights"),
    (lambda place: saved(place / "a.safetensors", "down_blocks.0.weight"), "a single network in diffusers' layout"),
    (lambda place: saved(place / "a.safetensors", f"{UNET}a"), "has no autoencoder and no text encoder"),
    (lambda place: place / "nowhere", "There is no folder 'nowhere'"),
    (lambda place: store.PROJECT / "README.md", "is no file of weights by its ending"),
    (lambda place: place, "has no config.json"),
]


@pytest.mark.parametrize(("make", "sentence"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_used_is_refused(tmp_path: Path, make: Callable[[Path], Path], sentence: str) -> None:
    with pytest.raises((DataError, NotFoundError), match=sentence):
        recognising.recognise(str(make(tmp_path)))


def test_a_changed_file_is_looked_at_anew(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.safetensors", "a")
    before = looks.state_of(str(path))
    assert looks.state_of(str(path)) == before
    saved(path, "a", "b")
    assert looks.state_of(str(path)) != before
    (tmp_path / "a.yaml").write_text("parameterization: v")
    assert looks.meant(str(tmp_path)) == str(path), "the file, beside which its .yaml lies"
    (tmp_path / "adapter_config.json").write_text("{}")
    assert looks.meant(str(tmp_path)) == str(tmp_path)
    assert looks.meant("owner/name") == "owner/name"
    assert len({before, looks.state_of(str(path)), looks.state_of(str(tmp_path))}) == 3


def test_the_command_says_what_the_page_does(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def done(job: Any, label: str) -> list[store.Artifact]:
        asked.append(job)
        return work.run(job, quiet)

    monkeypatch.setattr(answers, "completed", done)
    assert cli.main(["look", str(LORA), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["Model"].startswith("LoRA weights")
    assert "import-checkpoint --source" in told["taken in by"]
    (artifact,) = work.run(asked[0], quiet)
    assert looks.read(artifact) == recognising.recognise(str(LORA))


def test_the_command_looks_at_pictures_too(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = small_store.folder(tmp_path / "my own")
    (source / "notes.pdf").write_bytes(b"%PDF")
    assert cli.main(["look", str(source), "--resolution", "16", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["pictures"], told["labels"]) == (72, {"blue": 24, "green": 24, "red": 24})
    assert told["taken"] == {"file_name": "file_name", "caption": "caption", "contributor": "contributor"}
    assert list(told["left_out"].values()) == [1]
    assert told["bytes"] == 72 * 16 * 16 * 3
    printed = shlex.split(told["taken in by"])
    assert printed[printed.index("--source") + 1] == str(source), "as a shell reads it"
    assert cli.main(["look", str(source)]) == 0
    assert "dataset --source" in capsys.readouterr().out
    assert not looks.holds_pictures(str(BASE))
    assert not looks.holds_pictures(str(LORA.parent))
    assert not looks.holds_pictures("owner/name")
    (tmp_path / "out" / "checkpoint-500" / "unet").mkdir(parents=True)
    assert not looks.holds_pictures(str(tmp_path / "out")), "what a training wrote"
    with pytest.raises(NotFoundError, match="Give one of its checkpoints, checkpoint-500 say"):
        recognising.recognise(str(tmp_path / "out"))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.txt").write_text("a")
    assert cli.main(["look", str(tmp_path / "none")]) == 1
    assert "holds no pictures" in capsys.readouterr().err
