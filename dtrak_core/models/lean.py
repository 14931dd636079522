"""diffusers' own helpers, imported without torch's compiler, which they look for and can do without.

It takes more than a third of the processor time of importing what explains a picture, for which a first answer waits,
and nothing here compiles a network. Whoever asks for it later, as torch's optimisers do, gets it. Imported before
diffusers, this works; afterwards it does nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import sys

COMPILER = "torch._dynamo"


def _imported() -> None:
    if COMPILER in sys.modules:
        return
    sys.modules[COMPILER] = None  # type: ignore[assignment]  # by which Python says that it cannot be imported
    try:
        with contextlib.suppress(ImportError):  # of a version that has the module elsewhere, or cannot do without
            importlib.import_module("diffusers.utils.torch_utils")
    finally:
        del sys.modules[COMPILER]


_imported()
