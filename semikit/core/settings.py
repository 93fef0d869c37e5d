"""The base of every settings class: frozen, strict, no unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Settings of one part of semikit. The class stands beside what it configures and is never changed after it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
