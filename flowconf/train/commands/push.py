"""`flowconf push`: a run as a model of the Hugging Face hub: its weights, its config, and a card."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from flowconf.draw.levels import picture
from flowconf.draw.mermaid import mermaid
from flowconf.draw.secrets import with_references
from flowconf.graph.facts import facts_of
from flowconf.graph.weights import hub
from flowconf.graph.weights.reading import check_whole
from flowconf.graph.weights.sources import CONFIG, known_record, weights_of
from flowconf.report import ConfigError, Diagnostic, MachineError, Place, shown_path
from flowconf.text.output import replacing
from flowconf.train.checks import road
from flowconf.train.screen import number

WEIGHTS, CARD = "model.safetensors", "README.md"


def push(run: Path, repo: str, *, private: bool = False, dry_run: Path | None = None) -> str:
    """Upload the best weights of a run, its config and a model card; with `dry_run`, write them to that folder.

    Returns the address of the model, or the folder. Raises `ConfigError`, `MachineError` and `OSError`.
    """
    place = Place(word=repo)
    if not hub.NAME.fullmatch(repo):
        message = f"`{repo}` is not the name of a model of the hub"
        raise ConfigError(Diagnostic("FC0123", message, place, advice="write it as `organisation/model`"))
    if dry_run is not None:
        if dry_run.exists() and (not dry_run.is_dir() or any(dry_run.iterdir())):
            message = f"`{shown_path(dry_run)}` exists"
            raise MachineError(Diagnostic("FC0602", message, advice="choose another folder"))
        dry_run.parent.mkdir(parents=True, exist_ok=True)
        with replacing(dry_run) as folder:
            _write(run, repo, folder)
        return str(dry_run)
    hub.client(place)
    with TemporaryDirectory(prefix="flowconf-") as folder:
        _write(run, repo, Path(folder))
        return hub.upload(Path(folder), repo, private, place)


def _write(run: Path, repo: str, folder: Path) -> None:
    weights, card = weights_of(run), card_of(run, repo)
    if not weights.is_file():
        message = f"the run {shown_path(run)} has no weights"
        raise ConfigError(Diagnostic("FC0301", message, Place(str(run))))
    check_whole(weights, Place(str(weights)))
    folder.mkdir(exist_ok=True)
    shutil.copyfile(weights, folder / WEIGHTS)
    shutil.copyfile(run / CONFIG, folder / CONFIG)
    (folder / CARD).write_text(card, encoding="utf-8")


def card_of(run: Path, repo: str) -> str:
    """The model card of a run: its results, its graph as a picture, how to load its weights, and its config.

    Raises `ConfigError` for a run whose graph cannot be drawn.
    """
    walk = road.begin(run / CONFIG).to("sizes")
    whole = picture(walk.resolved, facts_of(walk.resolved, walk.inferred, source=False))
    drawn = mermaid(with_references(whole, walk.reporter.origins))
    config = (run / CONFIG).read_text(encoding="utf-8")
    rows = [f"| {_cell(name)} | {number(value)} |" for name, value in known_record(run)["metrics"].items()]
    results = ["## Results", "", "| value | best weights |", "|---|---|", *rows, ""] if rows else []
    lines = [
        "---",
        "library_name: flowconf",
        "tags: [flowconf, pytorch]",
        "---",
        "",
        f"# {repo.rpartition('/')[2]}",
        "",
        f"The graph `{walk.resolved.label}`, trained by [flowconf](https://pypi.org/project/flowconf).",
        "",
        *results,
        "## Graph",
        "",
        *_fenced("mermaid", drawn),
        "",
        "## Weights",
        "",
        *_fenced("yaml", f"checkpoint: {{hub: {repo}, file: {WEIGHTS}}}"),
        "",
        "## Config",
        "",
        *_fenced("yaml", config),
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """A name in a table of Markdown."""
    return "`" + " ".join(text.replace("`", "'").replace("|", "/").split()) + "`"


def _fenced(language: str, text: str) -> list[str]:
    """A text in a block that nothing in it ends."""
    longest = max((len(line) - len(line.lstrip("`")) for line in map(str.strip, text.splitlines())), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", text.rstrip("\n"), fence]
