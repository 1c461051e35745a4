"""From a config to finished runs: the stages, one after the other, each in a run folder of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import torch

from flowconf.api import load, load_run_config
from flowconf.diagnostics import Diagnostic, Place, RunError, render_text, shown_path
from flowconf.draw.dot import dot
from flowconf.graph import check_shapes
from flowconf.graph.sources import LAST, find_run_folder, record
from flowconf.language.config import RULES, Config, read
from flowconf.text import Composition
from flowconf.text import sweep as sweep_text
from flowconf.text.origins import Origins, dotted
from flowconf.text.write import describe
from flowconf.train.arithmetic import arithmetic
from flowconf.train.job import Job, prepare
from flowconf.train.loop import fit
from flowconf.train.resume import in_its_folder, portable
from flowconf.train.runs import Run, create_run, reopen_run
from flowconf.train.screen import Screen
from flowconf.train.stages import config_file, plan_stages
from flowconf.train.state import saved_step


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


def resume_run(folder: str, overrides: Sequence[str]) -> None:
    """What `flowconf train --resume RUN` does."""
    resume(folder, overrides)


def sweep(file: str, overrides: Sequence[str]) -> None:
    """What `flowconf train -m FILE` does: a run for each combination, by Hydra's sweepers and launchers."""
    sweep_text(file, overrides, RULES, sweep_job)


def sweep_job(composition: Composition) -> float:
    """One run of a sweep; gives what the sweeper looks at, the best value of `trainer.best`."""
    config = read(composition)
    metrics: dict[str, float] = record(train(config))["metrics"]
    return metrics.get(config.training.trainer.best, float("nan"))


def resume(folder: str, overrides: Sequence[str] = (), screen: Screen | None = None) -> Path:
    """Go on with a run from its checkpoint, or from its beginning when it has none. Gives its folder.

    `overrides` change its config from here on: more epochs, for one. Raises `FlowconfError` when the run is finished
    and nothing is changed.
    """
    run_folder = find_run_folder(folder)
    config = load_run_config(run_folder, overrides)
    known = record(run_folder)
    if known.get("status") == "finished" and not overrides:
        message = f"the run {shown_path(str(run_folder))} is finished"
        advice = "to train longer, give it more: `trainer.epochs=...`"
        raise RunError(Diagnostic("FC0702", message, Place(str(run_folder)), help=advice))
    screen = screen or Screen(bar=config.training.trainer.progress)
    run = reopen_run(run_folder.absolute(), overrides=list(overrides))
    run.open(config.training.trainer.tensorboard)
    with closing(run), in_its_folder(run_folder), _threads_as_they_were():
        started = (run.checkpoints / LAST).is_file()
        job = prepare(config, Path(config.training.trainer.runs), weights=not started)
        if overrides:
            run.rewrite(config.composition.document.data)
        run.update()
        _carry_out(job, run, screen)
    return run_folder


def _run_stage(config: Config, runs: Path, screen: Screen) -> Path:
    """One run in a folder of its own. It leaves torch as it was: a stage means the same alone and among others."""
    with _threads_as_they_were():
        job = prepare(config, runs)
        run = create_run(
            runs,
            config_file(config),
            config.composition.overrides,
            config.training.seed,
            portable(config),
            _places(config.composition.document.origins),
        )
        run.open(config.training.trainer.tensorboard)
        (run.folder / "weights.txt").write_text("".join(f"{account}\n" for account in job.accounts), encoding="utf-8")
        (run.folder / "graph.dot").write_text(dot(config.model), encoding="utf-8")
        _carry_out(job, run, screen)
    return run.folder


def _carry_out(job: Job, run: Run, screen: Screen) -> None:
    """Train, and say in the record how it ended."""
    try:
        with screen:
            _announce(job, run, screen)
            metrics = fit(job, run, screen)
    except KeyboardInterrupt:
        run.end("interrupted")
        screen.say(f"interrupted; to go on: flowconf train --resume {shown_path(str(run.folder))}")
        raise
    except BaseException:
        run.end("failed")
        raise
    run.end("finished", metrics=metrics)
    screen.say(f"run folder {shown_path(str(run.folder))}")


def _announce(job: Job, run: Run, screen: Screen) -> None:
    """Say what the run is going to do."""
    screen.say(f"\n{shown_path(run.record['config'])}  ->  {shown_path(str(run.folder))}")
    for line in [*job.accounts, *arithmetic(job)]:
        screen.say(line)
    step = saved_step(run.checkpoints / LAST)
    if step is not None:
        screen.say(f"goes on after step {step:,}")


@contextmanager
def _threads_as_they_were() -> Iterator[None]:
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _places(origins: Origins) -> dict[str, str]:
    """The config path of every value -> where it was written, and over what."""
    return {
        dotted(path): describe(node.place, node.history)
        for path, node in origins.items()
        if not isinstance(node.value, dict | list)
    }
