"""`train`: runs a config and the configs it depends on, each in its own run folder; and `train --resume`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from flowconf.draw.dot import dot
from flowconf.draw.levels import picture
from flowconf.draw.secrets import with_references
from flowconf.graph.facts import facts_of_graph
from flowconf.graph.weights.sources import find_run_folder, known_record, record
from flowconf.language.config import Config
from flowconf.language.sections.ineffective import check_length
from flowconf.report import (
    Diagnostic,
    FlowconfError,
    Place,
    Reporter,
    RunError,
    printable_lines,
    render_text,
    shell_word,
    shown_path,
)
from flowconf.train.callbacks.resources import Resources
from flowconf.train.callbacks.watcher import Watcher, Watchers
from flowconf.train.checks import road
from flowconf.train.checks.first_step import declared_fields
from flowconf.train.checks.road import Walk
from flowconf.train.checks.rows import check_splits
from flowconf.train.data.declarations import of_known_size
from flowconf.train.header import group_records, header
from flowconf.train.insight import failure
from flowconf.train.job import Job
from flowconf.train.loop import fit
from flowconf.train.objective.predictions import Predictions
from flowconf.train.precision import on_device
from flowconf.train.prepare import prepare
from flowconf.train.prerequisites import config_file
from flowconf.train.runs import loggers
from flowconf.train.runs.folder import Onlooker, Prunes, Run, create_run, reopen_run
from flowconf.train.runs.loading import FITTED_FILE, walk_run
from flowconf.train.runs.resume import in_its_folder, last_checkpoint, portable, refuse_changes
from flowconf.train.runs.state import check_checkpoint
from flowconf.train.screen import Screen
from flowconf.train.stopping import signals_later
from flowconf.train.taking import taking
from flowconf.train.team import launch
from flowconf.train.team.distributed import (
    Team,
    joined,
    lost_contact,
    most_restarts,
    note_run,
    noted_run,
    restarts,
    team_for,
)


@dataclass(frozen=True)
class Session:
    """One process that trains: its place in a team, its console, and who follows its runs."""

    member: Team
    screen: Screen
    opened: Callable[[Path], object] = lambda folder: None
    """Called with the folder of the last run once it exists."""
    prunes: Prunes | None = None
    """Decides after an evaluation whether the last run ends early; not asked by a run of several processes."""

    @property
    def for_stages(self) -> Session:
        """The session for the runs that the last one depends on, which are not followed."""
        return Session(self.member, self.screen)


def train_checked(
    walk: Walk,
    screen: Screen | None = None,
    *,
    verbose: bool = False,
    opened: Callable[[Path], object] = lambda folder: None,
    prunes: Prunes | None = None,
) -> Path:
    """Train a config, after every config whose weights it needs. Returns the run folder.

    Raises `FlowconfError` for an error in any of them before the first one starts. The record of a run that fails or
    is interrupted has this status.

    `verbose`: print whole headers. `opened` is called with the run folder once it exists. `prunes` tells from an
    evaluation whether to end the run early; it is not asked by a run of several processes.
    """
    with joined(walk.to(road.BEFORE_TORCH).checked) as member:
        walk = member.from_first(lambda: walk.to(road.END))  # composed by rank 0, because the file may change meanwhile
        prerequisites = walk.prerequisites
        assert prerequisites is not None
        screen = screen or _screen(walk.checked, member, verbose)
        session = Session(member, screen, opened, prunes)
        blocks = [render_text(walk.warnings), "\n".join(prerequisites.lines())]
        if any(blocks):
            screen.say("\n\n".join(filter(None, blocks)))
        runs = Path(walk.checked.training.trainer.runs)
        for stage in walk.before:
            _run_stage(stage, runs, session.for_stages)
        return _run_stage(walk, runs, session)


def take_part(task: launch.Task) -> None:
    """`flowconf train` in each process of a team."""
    config = task.walk.checked
    with joined(config) as member:
        session = Session(member, _screen(config, member, task.verbose))
        if task.run is not None:
            _continue(task.walk, Path(task.run), task.overrides, session)
        else:
            _start(task.walk, Path(config.training.trainer.runs), session)


def resume(
    folder: str,
    overrides: Sequence[str] = (),
    screen: Screen | None = None,
    *,
    verbose: bool = False,
    prunes: Prunes | None = None,
) -> Path:
    """Resume a run from its checkpoint, or from the start if it has none. Returns its folder.

    `overrides` change its config from here on, such as more epochs; `prunes` as in `train_checked`. Raises
    `FlowconfError` if the run is finished and there are no overrides, and for an error in its config, without changing
    the folder.
    """
    run_folder = find_run_folder(folder).absolute()
    known = known_record(run_folder)
    saved = last_checkpoint(run_folder)
    walk = walk_run(run_folder, overrides, saved).to(road.BEFORE_TORCH)
    if known.get("status") == "finished" and not overrides:
        message = f"the run {shown_path(run_folder)} is finished"
        advice = "to train longer, increase `trainer.epochs=...`"
        raise RunError(Diagnostic("FC0702", message, Place(str(run_folder)), advice=advice))
    if saved is not None:
        check_checkpoint(saved, known.get("id", ""))
        if overrides:
            refuse_changes(run_folder, walk_run(run_folder).to(road.BEFORE_TORCH).checked, walk.checked)
    with in_its_folder(run_folder):
        walk.to("machine")
    processes = launch.processes(walk.checked)
    if processes:
        launch.start(launch.Task(walk, str(run_folder), tuple(overrides), verbose), processes)
        return run_folder
    with joined(walk.checked) as member:
        session = Session(member, screen or _screen(walk.checked, member, verbose), prunes=prunes)
        _continue(walk, run_folder, overrides, session)
    return run_folder


def _continue(walk: Walk, folder: Path, overrides: Sequence[str], session: Session) -> None:
    config = walk.checked
    team = team_for(config, session.member)
    changed = portable(config) if overrides else None
    run = reopen_run(folder, overrides, changed) if team.first else Onlooker(folder, known_record(folder))
    run.prunes = session.prunes
    run.open(config.training.trainer.tensorboard)
    _note(folder)
    with closing(run), in_its_folder(folder), _torch_as_it_was(config, team):
        from_start = last_checkpoint(folder) is None
        job = _prepared(walk, Path(config.training.trainer.runs), team, session.screen, weights=from_start)
        _carry_out(job, lambda: run, session.screen)
    team.wait()


def _run_stage(walk: Walk, runs: Path, session: Session) -> Path:
    """One run in its own folder, with several processes if the config sets them."""
    processes = launch.processes(walk.checked)
    if not processes:
        return _start(walk, runs, session)
    folder = launch.start(launch.Task(walk, verbose=session.screen.verbose), processes)
    session.opened(folder)
    return folder


def _start(walk: Walk, runs: Path, session: Session) -> Path:
    """One run in its own folder, or in the unfinished folder of a team that this one replaces."""
    config = walk.checked
    before = session.member.from_first(noted_run)
    if before is not None and record(before).get("config") == str(config_file(config)):
        session.screen.say(f"a process died: restart {restarts()} of {most_restarts()}")
        _continue(walk, before, (), session.for_stages)
        return before
    team = team_for(config, session.member)
    with _torch_as_it_was(config, team):
        job = _prepared(walk, runs, team, session.screen)
        run = _carry_out(job, lambda: _new_run(job, runs, walk.sweep, session), session.screen)
    team.wait()
    return run.folder


def _prepared(walk: Walk, runs: Path, team: Team, screen: Screen, *, weights: bool = True) -> Job:
    """The job of a run, with its watchers."""
    with chdir("."):  # parts of a project may change the current folder
        job = prepare(walk.checked, runs, walk.inference, weights=weights, team=team)
    _check_against_data(job, walk, screen)
    job.watchers = Watchers(_watching(job))
    training = walk.checked.training
    if training.trainer.report:
        job.predictions = Predictions(training, job.terms, job.metrics, job.inputs, job.team.add_up, job.fitted)
    return job


def _watching(job: Job) -> Iterator[Watcher]:
    """The watchers that the config of a run asks for."""
    if job.config.training.trainer.statistics is not None:
        from flowconf.train.callbacks.statistics import Statistics

        yield Statistics(job)
    if job.config.training.trainer.report:
        yield Resources(job)
    if job.config.training.callbacks:
        from flowconf.train.callbacks.calls import Callbacks, made

        yield Callbacks(job, made(job.config, job.device) if job.team.first else {})


def _check_against_data(job: Job, walk: Walk, screen: Screen) -> None:
    """Refuse or warn about what does not fit the data and the length of the run, unless the `walk` has reported it."""
    reporter, reported = Reporter(job.config.origins), walk.warnings
    check_splits(job.config, job.held_out, reporter)
    check_length(job.config.training, job.length, reporter)
    reporter.stop_on_errors()
    fields = of_known_size(job.train.split.fields)
    measured = walk.with_fields(fields).warnings if fields.keys() - declared_fields(walk.checked) else []
    for warning in dict.fromkeys([*job.warnings, *reporter.mistakes(), *measured]):
        if warning not in reported:
            screen.say(render_text([warning]))


def _new_run(job: Job, runs: Path, sweep: str, session: Session) -> Run:
    """A run in a new folder, which is created and locked by rank 0."""
    made = job.team.from_first(lambda: _made(job, runs, sweep))
    run = made if job.team.first else Onlooker(made.folder, made.record)
    run.prunes = session.prunes
    try:
        run.open(job.config.training.trainer.tensorboard)
        _note(run.folder)
        session.opened(run.folder)
    except BaseException:
        run.end("failed")
        raise
    return run


def _made(job: Job, runs: Path, sweep: str) -> Run:
    config = job.config
    reports = printable_lines("".join(f"{report}\n" for report in job.reports))
    sources = {report.at: str(Path(report.source).absolute()) for report in job.reports}
    shown = with_references(picture(config.model, facts_of_graph(job.graph)), config.origins)
    texts = {"weights.txt": reports, "graph.dot": dot(shown)}
    if job.fitted is not None:
        texts[FITTED_FILE] = json.dumps(job.fitted, indent=2, ensure_ascii=False) + "\n"
    return create_run(runs.absolute(), config, texts, sources, sweep)


def _note(folder: Path) -> None:
    """Record the run folder for the parent process, and for processes that may replace this one."""
    launch.note_run(folder.absolute())
    note_run(folder.absolute())


def _screen(config: Config, member: Team, verbose: bool) -> Screen:
    """The console output; only rank 0 prints."""
    if member.first:
        return Screen(bar=config.training.trainer.progress, verbose=verbose)
    return Screen(Path(os.devnull).open("w", encoding="utf-8"), bar=False)


def _carry_out(job: Job, opened: Callable[[], Run], screen: Screen) -> Run:
    """Train a run, and write its final status to the record in any case."""
    run: Run | None = None
    try:
        with signals_later():
            run = opened()
        with closing(screen):
            _announce(job, run, screen)
            if job.team.first:
                run.loggers = loggers.start(job.config, run.folder, run.record, screen.say)
                run.write_report = _reports(job, run, screen)
            run.record["groups"] = group_records(job)
            with taking(job, run, screen) as take:
                metrics = fit(job, run, screen, take)
        run.end("pruned" if run.pruned else "finished", metrics=metrics)
    except BaseException as problem:
        interrupted = isinstance(problem, KeyboardInterrupt)
        others = lost_contact(problem) and launch.noted_end() == launch.INTERRUPTED  # another process has exited
        if run is not None and (interrupted or others):
            launch.note_end(launch.INTERRUPTED)
            _end(run, "interrupted", screen)
            screen.say(f"interrupted; to resume: flowconf train --resume {shell_word(run.folder)}")
            raise KeyboardInterrupt from problem
        failure.add_notes(problem, job)
        if run is not None:
            _end(run, "failed", screen)
        failure.explain(problem, job)
        raise
    screen.say(f"run folder {shown_path(run.folder)}")
    return run


def _reports(job: Job, run: Run, screen: Screen) -> Callable[[bool], None] | None:
    """The function that writes the report of a run, unless `trainer.report` is off."""
    if not job.config.training.trainer.report:
        return None
    from flowconf.train.runs.report_page import Reports

    origins = job.config.origins
    return Reports(run.folder, job.graph, origins, screen.say, job.predictions).write


def _end(run: Run, status: str, screen: Screen) -> None:
    """End a run that was interrupted or has failed, and print the error of a save that has failed as well."""
    unsaved = run.end(status)
    if unsaved is not None:
        screen.say(unsaved.diagnostics[0].message if isinstance(unsaved, FlowconfError) else str(unsaved))


def _announce(job: Job, run: Run, screen: Screen) -> None:
    """Print the header of the run."""
    screen.say(f"\n{shown_path(run.record['config'])}  ->  {shown_path(run.folder)}")
    for line in header(job, screen.verbose):
        screen.say(line)
    if job.config.training.trainer.compile:
        from flowconf.train.insight import compile_report

        for line in compile_report.report(job):
            screen.say(line)


@contextmanager
def _torch_as_it_was(config: Config, team: Team) -> Iterator[None]:
    """Restore torch's global settings after a run, so that a stage behaves the same alone and among others."""
    threads = torch.get_num_threads()
    try:
        place = config.origins.value(("trainer", "precision"))
        trainer = config.training.trainer
        with on_device(team.device, trainer.precision, place, trainer.deterministic):
            yield
    finally:
        torch.set_num_threads(threads)
