"""Weights made elsewhere: read from any file of diffusers without running code that is in it, and fitted to a network.

.safetensors is read as it is, .bin with weights_only. Names are brought to those of today's diffusers: what wrappers
(torch.compile, DataParallel) put before them is left out, and the attention's old ones (query, key, value, proj_attn)
are converted, as `from_pretrained` does.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dtrak_core.errors import DataError
from dtrak_core.models.model_files import WeightFiles, damaged, refuse_damaged
from dtrak_core.settings import digest_of

WRAPPERS = ("_orig_mod.", "module.", "model.", "unet.")
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


# What torch.load raises of bytes that are no pickle, or the beginning of one.
UNREADABLE = (
    UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, struct.error, AssertionError,
    AttributeError,
)  # fmt: skip


def read(files: WeightFiles, source: str) -> dict[str, Tensor]:
    """Return the weights of a network by name, as they are stored, on the CPU.

    Args:
        files: Which files hold them (`model_files.find_weights`).
        source: What the user calls the model.

    Raises:
        DataError: If a file is damaged, a stand-in, holds code, no weights, or numbers that are not finite.
    """
    found: dict[str, Tensor] = {}
    for path in files.paths:
        found |= read_file(path, source)
    return found


def read_file(path: Path, source: str) -> dict[str, Tensor]:
    """Return the weights of one .safetensors or pickled file; see `read`."""
    refuse_damaged(path, source)
    try:
        if path.suffix == ".safetensors":
            loaded: Any = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError:
        raise damaged(path, source) from None
    except UNREADABLE as error:
        # torch says so in words alone, of a class that is not on its list, of a function, of a TorchScript archive.
        if any(word in str(error) for word in ("GLOBAL", "Unsupported class", "TorchScript")):
            raise DataError(
                f"{path.name} of '{source}' holds pickled code, which is not opened. Load it where you trust it, and "
                "save its weights alone with save_pretrained(..., safe_serialization=True)."
            ) from None
        raise damaged(path, source) from None
    tensors = _unwrapped(_tensors(loaded, path, source))
    bad = [name for name, value in tensors.items() if not _finite(value)]
    if bad:
        raise DataError(
            f"The weights of '{source}' hold NaN or infinite numbers, {_some(bad)}: its training diverged, or the file "
            "was changed. Take an earlier checkpoint."
        )
    return tensors


def fit(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a network, in the network's own number format.

    Args:
        network: What its config describes.
        tensors: Weights by name; the attention's old names are known too.
        source: What the user calls the model.

    Raises:
        DataError: If a weight is missing, unknown, of another shape, or not of floating point.
    """
    own = network.state_dict()
    given = _renewed(tensors, own)
    missing = [name for name in own if name not in given]
    unknown = [name for name in given if name not in own]
    shapes = [
        f"{name} is {list(value.shape)} where {list(own[name].shape)} is expected"
        for name, value in given.items()
        if name in own and value.shape != own[name].shape
    ]
    wrong = [name for name, value in given.items() if name in own and _quantised(value, own[name])]
    said = [
        f"{len(missing)} missing, {_some(missing)}" if missing else "",
        f"{len(unknown)} unknown, {_some(unknown)}" if unknown else "",
        f"{len(shapes)} of another shape ({shapes[0]})" if shapes else "",
        f"{len(wrong)} stored as {str(given[wrong[0]].dtype).removeprefix('torch.')}, {_some(wrong)}" if wrong else "",
    ]
    if any(said):
        raise DataError(
            f"The weights of '{source}' do not fit the network that config.json describes: "
            f"{'; '.join(part for part in said if part)}. Settings made in code (resnet_time_scale_shift, say) must be "
            "written into config.json."
        )
    network.load_state_dict(given, strict=False)


def digest(state: Mapping[str, Tensor]) -> str:
    """Return the digest of weights, by name, in their own number format."""
    parts: list[bytes | str] = []
    for name, value in sorted(state.items()):
        parts += [name, value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()]
    return digest_of(*parts)


def _tensors(loaded: object, path: Path, source: str) -> dict[str, Tensor]:
    """Return the weights by name of what a file held, looking into a trainer's own dictionary."""
    if isinstance(loaded, Mapping):
        if loaded and all(isinstance(value, Tensor) for value in loaded.values()):
            return dict(loaded)
        inner = {
            str(name): value
            for name, value in loaded.items()
            if isinstance(value, Mapping) and value and all(isinstance(one, Tensor) for one in value.values())
        }
        if len(inner) == 1:
            return dict(next(iter(inner.values())))
        if inner:
            raise DataError(
                f"{path.name} of '{source}' holds several sets of weights ({', '.join(inner)}). Save the one you want "
                "alone, with save_pretrained."
            )
    raise DataError(
        f"{path.name} of '{source}' holds no weights by name. Save the network with save_pretrained, and import that."
    )


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out what wrappers put before the names; torch.compile does so before the names of parts, too."""
    found = {name.replace("_orig_mod.", ""): value for name, value in tensors.items()}
    while before := next((w for w in WRAPPERS if found and all(name.startswith(w) for name in found)), ""):
        found = {name.removeprefix(before): value for name, value in found.items()}
    return found


def _renewed(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the attention's weights the names that the network has, where the file has those of before 2023."""
    found = {}
    for name, value in tensors.items():
        parts = name.rsplit(".", 2)
        if name not in own and len(parts) == 3 and parts[1] in OLD_ATTENTION:
            renewed = f"{parts[0]}.{OLD_ATTENTION[parts[1]]}.{parts[2]}"
            found[renewed if renewed in own else name] = value
        else:
            found[name] = value
    return found


def _finite(value: Tensor) -> bool:
    if value.is_floating_point() and value.element_size() == 1:  # of which torch cannot say it
        value = value.float()
    return bool(value.isfinite().all())


def _quantised(value: Tensor, own: Tensor) -> bool:
    return own.is_floating_point() and not value.is_floating_point()


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
