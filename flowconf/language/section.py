"""The base class of the Pydantic models of documents and configs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base class of all sections: no unknown keys, no type coercion, immutable.

    A model is built on first use, together with all models that it contains.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)
