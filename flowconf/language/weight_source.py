"""The key that names weights: `checkpoint` of a step or graph, and `init_from` of a config."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, Tag

from flowconf.language.section import Section, by_form
from flowconf.language.value_types import InWords


class CheckpointSource(Section):
    """The source of weights; set one of `path`, `config` and `hub`."""

    path: str | None = None
    """A `.safetensors` or `.pt` file, a folder of checkpoints, a run folder (its best checkpoint), or a folder of runs
    (the newest one that has such weights)."""
    config: str | None = None
    """A training config, relative to this file: load its newest finished run; it is trained first if there is none."""
    where: dict[str, Any] = {}
    """With `config`: only a run whose composed config has these values, such as `{trainer.epochs: 20, seed: 1}`. If
    there is none, the config is trained with them."""
    hub: (
        Annotated[str, Field(pattern=r"^(\w[\w.-]*/)?\w[\w.-]*$"), InWords("the name of a model, as in `org/model`")]
        | None
    ) = None
    """A model of the Hugging Face hub, such as `google-bert/bert-base-uncased`."""
    revision: Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$"), InWords("a branch, tag or commit")] | None = (
        None
    )
    """With `hub`: a branch, tag or commit; null: `main`."""
    file: (
        Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$"), InWords("the path of a file in the model")] | None
    ) = None
    """With `hub`: the file of weights, or its index; null: the one with a usual name."""
    step: Annotated[int, Field(gt=0)] | None = None
    """Of a run: the weights that it has kept of this step (`trainer.keep`); null: its best ones."""
    at: str | None = None
    """Load only this path of the source."""
    rename: dict[str, str] = {}
    """Old prefix -> new prefix, for names that differ; `*` is any one name, the same in both. The first
    that fits applies."""
    missing: Literal["error", "warn", "ignore"] = "error"
    """What to do if a tensor of the graph is not in the source."""
    unused: Literal["error", "warn", "ignore"] = "warn"
    """What to do if a tensor of the source is not in the graph."""
    mismatched: Literal["error", "ignore"] = "error"
    """What to do if a tensor has another shape in the source, such as that of another head: "ignore" keeps the initial
    values of the graph."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$"), InWords("64 hexadecimal digits")] | None = None
    """The required SHA-256 digest of the file."""


CheckpointKey = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[CheckpointSource, Tag("<mapping>")],
    by_form("<mapping>", "<text>"),
    InWords("a path or a mapping"),
]
