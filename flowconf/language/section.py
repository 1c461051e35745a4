"""The base of the Pydantic models of documents and configs."""

from __future__ import annotations

from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, model_validator
from pydantic_core import PydanticCustomError

Members = TypeVar("Members")

FORMS: dict[str, type | tuple[type, ...]] = {
    "<list>": list,
    "<number>": int,
    "<text>": str,
    **dict.fromkeys(("<mapping>", "<document>", "<scaled>"), (dict, BaseModel)),
}
"""The tags of the members of a union -> the values that each of them takes."""
INSIDE = "inside"
"""The path within a value that an error about the value is about, in the context of Pydantic's error."""
RULE = "rule"
"""The type of Pydantic's errors whose messages are whole sentences."""


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


def by_form(*tags: str) -> Discriminator:
    """Chooses the member of a union by the form of a value; one of another form belongs to the last one."""
    return Discriminator(lambda value: next((tag for tag in tags if isinstance(value, FORMS[tag])), tags[-1]))


def _without_removed(members: object) -> object:
    if isinstance(members, dict):
        return {name: member for name, member in members.items() if member is not None}
    return members


Removable = Annotated[Members, Field(json_schema_extra={"removable": True}), BeforeValidator(_without_removed)]
"""A mapping whose null members are removed."""
