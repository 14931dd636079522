"""What tests of encoders share: a CLIP that is small, and files of its weights."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch

from dtrak_core.methods import embeddings


def small(folder: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """Put a CLIP of one layer in place of ViT-B/32, with its random weights in a local file; return it."""
    config = {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 224, "layers": 1, "width": 64, "patch_size": 32},
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
    }
    (folder / "small-clip.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "small-clip.json")
    monkeypatch.setattr(embeddings, "CLIP_CONFIG", "small-clip")
    torch.manual_seed(0)
    net: torch.nn.Module = open_clip.create_model("small-clip").eval()
    torch.save(net.state_dict(), folder / "weights.pt")
    monkeypatch.setenv(embeddings.WEIGHTS_VARIABLE, str(folder / "weights.pt"))
    return net


def set_up(folder: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set up other random weights of the small CLIP, from a file of their own."""
    torch.manual_seed(seed)
    file = folder / f"weights-{seed}.pt"
    torch.save(open_clip.create_model("small-clip").state_dict(), file)
    monkeypatch.setenv(embeddings.WEIGHTS_VARIABLE, str(file))
