"""What the frozen settings of all stages have in common, and the keys they give.

A key names a stored artifact: it is the SHA-256 of the settings' canonical JSON,
with the digests of the inputs and the format number of the kind of artifact. Equal work
has an equal key, so that it is done once, whoever asks (docs/design.md, "The store").

Settings say *what* is computed. How it is run (batch sizes, threads, device) changes
no number beyond rounding and is therefore not a setting.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dtrak_core.errors import SettingsError, shortened
from dtrak_core.kinds import KINDS

NAME = r"^[a-z0-9][a-z0-9._-]{0,39}$"  # of what a user names
DIGEST = r"^[0-9a-f]{16}$"
DRAWN = r"^seed:[0-9]{1,10}$"  # a generated picture
EXPECTED = {
    NAME: "take lower-case letters, digits, '.', '_' and '-', 40 at most, a letter or digit first, like 'my-pictures'",
    DIGEST: "a digest has 16 hex digits",
    DRAWN: "write the seed of a picture that the model draws, like seed:3",
}
Name = Annotated[str, Field(pattern=NAME)]
Digest = Annotated[str, Field(pattern=DIGEST)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
SettingsT = TypeVar("SettingsT", bound="Settings")


class Settings(BaseModel):
    """Base of all settings: immutable, no unknown fields, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no spaces: equal settings give equal text."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(*parts: bytes | str) -> str:
    """Return 16 hex digits of the SHA-256 of the parts, each preceded by its length."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()[:16]


def format_of(kind: str, settings: Mapping[str, Any]) -> int:
    """Return the format number of an artifact of this kind and these settings (as JSON values).

    It is that of the kind, and 1 more where pictures lean on a sampler that was mended.
    """
    if kind not in KINDS:
        raise SettingsError(f"'{kind}' is not a kind of artifact. Kinds: {', '.join(KINDS)}.")
    return KINDS[kind].format + _redrawn(settings)


def _redrawn(settings: Mapping[str, Any]) -> bool:
    """Say whether settings, or a part of them, draw pictures of prompts with fresh noise.

    Their last step lacked its noise once: diffusers adds it at timestep 1, where Stable Diffusion's schedules end.
    """
    noisy = settings.get("sampler") == "ddpm" or ("sampler" in settings and settings.get("eta", 0) > 0)
    parts = (one for one in settings.values() if isinstance(one, Mapping))
    return bool(noisy and settings.get("prompts")) or any(map(_redrawn, parts))


def key_of(kind: str, settings: Settings) -> str:
    """Return the key under which an artifact of this kind and these settings is stored."""
    plain = settings.model_dump(mode="json")
    return digest_of(kind, str(format_of(kind, plain)), canonical_json(plain))


def build(cls: type[SettingsT], **values: Any) -> SettingsT:
    """Make settings from a form's or file's values, with errors as sentences.

    Raises:
        SettingsError: One sentence for each value that is refused, with the value.
    """
    try:
        return cls(**values)
    except ValidationError as error:
        raise SettingsError(sentences(error)) from None


def sentences(error: ValidationError) -> str:
    """Turn pydantic's findings into sentences that name field, value and what was expected."""
    found = []
    items = error.errors(include_url=False)
    for item in items:
        # Of a list it also says that too few are left, where the reason is what was refused of it.
        if item["type"] == "too_short" and any(item["loc"] == one["loc"][:-1] for one in items if one["loc"]):
            continue
        field = ".".join(part for part in item["loc"] if isinstance(part, str))
        text = item["msg"].removeprefix("Value error, ")
        if item["type"] == "string_pattern_mismatch":
            text = EXPECTED.get(item["ctx"]["pattern"], text)
        if not field:
            found.append(f"{text}.")
        elif item["type"] == "extra_forbidden":
            found.append(f"Setting '{field}' does not exist; remove it.")
        elif item["type"] == "missing":
            found.append(f"Setting '{field}' is missing; give it.")
        else:
            found.append(f"Setting '{field}' is {shortened(repr(item['input']))}: {text[0].lower()}{text[1:]}.")
    return " ".join(found)
