"""From a config to finished runs: the stages, one after the other, each in a run folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from flowconf.api import load
from flowconf.diagnostics import render_text, shown_path
from flowconf.draw.dot import dot
from flowconf.graph import check_shapes
from flowconf.graph.sources import record
from flowconf.language.config import RULES, Config, read
from flowconf.text import Composition
from flowconf.text import sweep as sweep_text
from flowconf.text.origins import Origins, dotted
from flowconf.text.write import describe
from flowconf.train.arithmetic import arithmetic
from flowconf.train.job import Job, prepare
from flowconf.train.loop import fit
from flowconf.train.runs import Run, create_run
from flowconf.train.screen import Screen
from flowconf.train.stages import config_file, plan_stages


def train(config: Config, screen: Screen | None = None) -> Path:
    """Train `config`, and before it every config whose weights it needs. Gives the run folder.

    Raises `FlowconfError` for what is wrong with any of them before the first one begins. The run folder of a run that
    fails or is interrupted says so.
    """
    screen = screen or Screen(bar=config.training.trainer.progress)
    runs = Path(config.training.trainer.runs)
    stages = plan_stages(config, load, runs)
    for text in [*(render_text([warning]) for warning in config.warnings), *stages.lines()]:
        screen.say(text)
    for later in stages.runs[1:]:
        check_shapes(later.model)
    folders = [_run_stage(stage, runs, screen) for stage in stages.runs]
    return folders[-1]


def train_file(file: str, overrides: Sequence[str]) -> None:
    """What `flowconf train FILE` does."""
    train(load(file, overrides))


def sweep(file: str, overrides: Sequence[str]) -> None:
    """What `flowconf train -m FILE` does: a run for each combination, by Hydra's sweepers and launchers."""
    sweep_text(file, overrides, RULES, sweep_job)


def sweep_job(composition: Composition) -> float:
    """One run of a sweep; gives what the sweeper looks at, the best value of `trainer.best`."""
    config = read(composition)
    metrics: dict[str, float] = record(train(config))["metrics"]
    return metrics.get(config.training.trainer.best, float("nan"))


def _run_stage(config: Config, runs: Path, screen: Screen) -> Path:
    """One run. It leaves torch as it was, so that a stage means the same alone and among others."""
    threads = torch.get_num_threads()
    try:
        return _run(prepare(config, runs), runs, screen)
    finally:
        torch.set_num_threads(threads)


def _run(job: Job, runs: Path, screen: Screen) -> Path:
    config = job.config
    run = create_run(
        runs,
        config_file(config),
        config.composition.overrides,
        config.training.seed,
        config.composition.document.data,
        _places(config.composition.document.origins),
    )
    try:
        with screen:
            _announce(job, run, screen)
            metrics = fit(job, run, screen)
    except KeyboardInterrupt:
        run.end("interrupted")
        raise
    except BaseException:
        run.end("failed")
        raise
    run.end("finished", metrics=metrics)
    screen.say(f"run folder {run.folder}")
    return run.folder


def _announce(job: Job, run: Run, screen: Screen) -> None:
    """Say what the run is going to do, and keep what was said of its weights and its picture."""
    screen.say(f"\n{shown_path(str(config_file(job.config)))}  ->  {run.folder}")
    for account in job.accounts:
        screen.say(account)
    (run.folder / "weights.txt").write_text("".join(f"{account}\n" for account in job.accounts), encoding="utf-8")
    (run.folder / "graph.dot").write_text(dot(job.config.model), encoding="utf-8")
    for line in arithmetic(job):
        screen.say(line)
    run.open(job.config.training.trainer.tensorboard)


def _places(origins: Origins) -> dict[str, str]:
    """The config path of every value -> where it was written, and over what."""
    return {
        dotted(path): describe(node.place, node.history)
        for path, node in origins.items()
        if not isinstance(node.value, dict | list)
    }
