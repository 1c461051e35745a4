"""The base class of the Pydantic models of documents and configs."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """Base class of all sections: no unknown keys, no type coercion, immutable.

    A model is built on first use, together with all models that it contains.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class Choice(Section):
    """A mapping of which exactly one key is set."""

    @model_validator(mode="after")
    def _has_one_key(self) -> Self:
        keys = self._keys()
        if len(keys) != 1:
            names = ", ".join(f"`{name}`" for name in type(self).model_fields)
            found = " and ".join(f"`{key}`" for key in keys) or "none"
            raise PydanticCustomError("one_key", f"expected exactly one of {names}, got {found}", {"keys": keys})
        return self

    def _keys(self) -> list[str]:
        return [name for name in type(self).model_fields if getattr(self, name) is not None]

    @property
    def key(self) -> str:
        """The key that is set."""
        return self._keys()[0]
