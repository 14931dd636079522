"""diffusers' UNet2DModel, imported by itself.

diffusers' packages of networks import all of their modules, and with them transformers and peft, as soon as one is
asked for: twice the seconds, for which whoever asks for a first answer would wait. Here the packages around UNet2DModel
stand empty while it is imported, but for the names that it asks them for. They are imported whole when something else
of them is, and find this very class.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType

AROUND: Mapping[str, Mapping[str, str]] = {  # by package, names that it is asked for, and in which module each is
    "diffusers.models.unets": {},
    "diffusers.models.transformers": {},
    "diffusers.quantizers": {"DiffusersAutoQuantizer": "auto", "DiffusersQuantizer": "base"},
}


@contextlib.contextmanager
def _empty(packages: Mapping[str, Mapping[str, str]]) -> Iterator[None]:
    """Let packages that are not imported yet stand empty for a while, so that a module of theirs is imported alone."""
    made: dict[str, ModuleType] = {}
    try:
        for package, names in packages.items():
            spec = importlib.util.find_spec(package) if package not in sys.modules else None
            if spec is not None and spec.submodule_search_locations is not None:
                sys.modules[package] = made[package] = ModuleType(package)
                made[package].__spec__, made[package].__path__ = spec, spec.submodule_search_locations
                for name, module in names.items():
                    setattr(made[package], name, getattr(importlib.import_module(f"{package}.{module}"), name))
        yield
    finally:
        for package in made:
            del sys.modules[package]


try:
    with _empty(AROUND):
        from diffusers.models.unets.unet_2d import UNet2DModel as UNet2DModel
except (ImportError, AttributeError):  # of a version whose modules ask for more
    from diffusers import UNet2DModel as UNet2DModel
