"""Resolves a graph document to its Plan: names, references, parameters and structure, with the place of every error.

An inline body is resolved in the context of its document: names and modules of the surrounding graph that it uses
become further inputs (`captures`) and shared modules (`shares`) of its Plan. A graph from a file or group only has
access to its own parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from flowconf.language import references, schema
from flowconf.language.advice import other_tools, vocabulary
from flowconf.language.arguments import Call, Literal
from flowconf.language.keys.validate import validate
from flowconf.language.plan import (
    AlsoStep,
    Applied,
    Chain,
    ForkStep,
    GateStep,
    GraphPlan,
    GraphStep,
    Instance,
    LoopStep,
    MapStep,
    Mount,
    ReuseStep,
    Shared,
    SplitStep,
    Step,
    SwitchStep,
    ThroughStep,
    Value,
    with_verb,
)
from flowconf.language.references import NotFound
from flowconf.language.registry import modules
from flowconf.language.resolve import adapters, links, loops, parameters, reserved_names, step_inputs, unused
from flowconf.language.resolve.draft import Draft, Params, scope_of
from flowconf.language.resolve.inputs import read_inputs
from flowconf.language.resolve.module_settings import read_setting
from flowconf.language.resolve.reading import Reading, Unresolved
from flowconf.language.resolve.step_inputs import Given, taken
from flowconf.language.resolve.step_order import ordered
from flowconf.language.resolve.unique_names import all_names, check_name, claim_names, labels
from flowconf.language.settings import Follow, Tie
from flowconf.report import Label, Reporter, Suggestion, nearest
from flowconf.report.origins import Document, Path, dotted

PLACED = ("take", "dim", "slices", "times", "merge")
"""Keys of a step whose values may not match the shapes."""

EXTRAS = ("skip", "router", "condition", "merge", "body")
"""Reserved names below the path of a step, besides branches."""
SETTINGS = frozenset(schema.Settings.model_fields) - {"label"}


def resolve(document: Document, at: Path = ()) -> GraphPlan:
    """The Plan of the graph document at `at`.

    Raises `ConfigError` with all errors of the first stage that has any.
    """
    reporter = Reporter(document.origins, diagnostics=list(document.warnings))
    model = validate(schema.GraphDocument, document.at(at), reporter.below(at))
    reporter.stop_on_errors()
    assert model is not None
    plan = resolve_model(model, document, at, reporter)
    reporter.stop_on_errors()
    return replace(plan, warnings=tuple(reporter.diagnostics))


def resolve_model(
    model: schema.GraphDocument, document: Document, at: Path, reporter: Reporter, asked: Collection[str] = ()
) -> GraphPlan:
    """The Plan of a graph document with valid keys, without the parts that have errors, which go to `reporter`.

    `asked` are names of members that are read from outside the graph.
    """
    return _Resolver(document, reporter, asked).graph(model, at, model.label or "graph", None, {})


class _Resolver(Reading):
    """Resolves one document, with access to the places of its keys and values."""

    def graph(
        self, model: schema.GraphDocument, path: Path, label: str, around: Draft | None, given: dict[str, Literal]
    ) -> GraphPlan:
        """The plan of one document; `given` are the values of `with` in a parent."""
        plan, _ = self._document(model, path, label, around, given)
        if not self.reporter.errors:  # unused names are only known without other errors
            self.reporter.diagnostics += self.unused.diagnostics
        return plan

    def _document(
        self, model: schema.GraphDocument, path: Path, label: str, around: Draft | None, given: dict[str, Literal]
    ) -> tuple[GraphPlan, Draft]:
        params = parameters.declared(model, path, self.reporter)
        own = Params(
            {
                name: parameters.as_set(name, value, given.get(name), path, self.reporter)
                for name, value in params.items()
            }
        )
        scope = scope_of(own, around)
        inputs = read_inputs(model, path, scope, self.reporter)
        mount = self.reporter.origins.mounts.get(path)
        title = f"`{mount.name if mount else model.label or label}`" if path or model.label else "this graph"
        draft = Draft(path, title, scope, around, inputs, Value(inputs[0].name))
        claim_names(model, draft, self.reporter)
        self._steps(model, draft)
        outputs = self._outputs(model, draft)
        self._meet_awaited(draft)
        links.resolve(draft, self.reporter)
        adapters.resolve(draft, self.reporter)
        self._note_unused(own, draft, outputs)
        plan = GraphPlan(
            label=label,
            params=tuple(params.items()),
            inputs=tuple(draft.inputs),
            steps=tuple(draft.steps),
            outputs=outputs,
            output_places=tuple((name, self.reporter.key((*path, "outputs", name))) for name in model.outputs or {}),
            settings=tuple(draft.settings),
            ties=tuple(link for link in draft.links.values() if isinstance(link, Tie) and link.home),
            follows=tuple(link for link in draft.links.values() if isinstance(link, Follow) and link.home),
            adapters=tuple(draft.adapters),
            shares=tuple(draft.shares),
            source_name=mount.name if mount else None,
            inline=around is not None,
            document=self.document.written(path),
            place=self.reporter.key(path) if path else self.reporter.value(path),
        )
        return plan, draft

    def _note_unused(self, params: Params, draft: Draft, outputs: Collection[tuple[str, Value]]) -> None:
        path, asked = draft.path, self.asked if not draft.path[1:] else ()
        within = dotted(path[:-1] if path in self.reporter.origins.mounts else path)
        self.reporter.defines("the parameter", unused.left(params, draft, self.reporter), within)
        self.reporter.defines("the step or input", unused.unread(draft, outputs, asked), within)
        unused.check_params(params, draft, self.unused)
        if not unused.has_removed(path, self.reporter):
            unused.check_inputs(draft, outputs, asked, self.unused)

    # steps

    def _steps(self, model: schema.GraphDocument, draft: Draft) -> None:
        before = len(self.reporter.diagnostics)
        at: Path = (*draft.path, "flow")
        order = ordered({n: s for n, s in model.flow.items() if s is not None}, draft.path, self.reporter)
        if not order:
            self.reporter.error("FC0123", "the flow has no steps", self.reporter.key(at), at=draft.path)
        if self.reporter.has_errors(before):  # the order of the steps is unknown
            draft.failed |= draft.members.keys()
        for name in order:
            before = len(self.reporter.diagnostics)
            try:
                self._step(name, model.flow[name], draft)
            except Unresolved:
                if not self.reporter.has_errors(before):
                    self.reporter.unchecked.append(dotted((*at, name)))
                draft.failed |= all_names(name, model.flow[name], (*at, name))
                draft.stream = Value(name)

    def _step(self, name: str, model: schema.Modifiers | str | object, draft: Draft) -> None:
        at: Path = (*draft.path, "flow", name)
        before = len(self.reporter.diagnostics)
        if isinstance(model, schema.Modifiers):
            step = self._mapping_step(name, model, at, draft)
        else:
            body = self._part(model, at, name, draft, [])
            places = self.reporter.key(at), self.reporter.value(at)
            step = ThroughStep(name, name, draft.stream, (("body", body),), place=places[0], body_place=places[1])
        step_inputs.check_extras(step, self.reporter)
        step = _with_records(step, draft)
        if self.reporter.has_errors(before):
            draft.failed |= {name, step.path}
        elif not draft.is_broken(step.stream.member):
            step_inputs.check_filled(step, draft, self.reporter)
        draft.add(step)
        if step.carries_stream:
            draft.stream = Value(name)

    def _mapping_step(self, name: str, model: schema.Modifiers, at: Path, draft: Draft) -> Step:
        path = next((label for label, _ in labels(model, at)), name)
        if isinstance(model.repeat, schema.Copies):
            return self._with_index(name, path, model, model.repeat, at, draft)
        return self._single(name, path, model, at, draft, self._count(model.repeat, (*at, "repeat"), draft))

    def _with_index(
        self, name: str, path: str, model: schema.Modifiers, repeat: schema.Copies, at: Path, draft: Draft
    ) -> Step:
        """A repeated step whose copies differ by their number: each is resolved with its own."""
        index, where = repeat.index, (*at, "repeat")
        times = self._count(repeat.times, (*where, "times"), draft)
        assert times is not None
        assert isinstance(times.value, int)
        wrong = parameters.wrong_index(index, model.verb, times.value * self.copies, draft.scope)
        if wrong is not None:
            self._fail(wrong.code, wrong.message, self.reporter.value((*where, *wrong.where)), name, wrong.advice)
        before = len(self.reporter.diagnostics)
        check_name(index, self.reporter.value((*where, "index")), self.reporter, attribute=False, modules_too=True)
        if self.reporter.has_errors(before):
            raise Unresolved
        numbered, number = draft.numbered(index, 0)
        step = replace(self._single(name, path, model, at, numbered, times), index=index)
        if index not in number.used:
            advice = f"use it in the step, or write `repeat: {repeat.times}`"
            place = self.reporter.value((*where, "index"))
            self.reporter.warn("FC0149", f"unused parameter `{index}`", place, at=(*where, "index"), advice=advice)
            draft.add_settings(numbered)
            return replace(step, index=None)
        copies = []
        for copy in range(times.value):
            alone = _Resolver(self.document, Reporter(self.reporter.origins), self.asked)
            alone.copies = self.copies * times.value
            numbered, _ = draft.numbered(index, copy)
            with suppress(Unresolved):
                copies.append(alone._single(name, f"{path}.{copy}", model, at, numbered, times))
            if alone.reporter.errors:
                self.reporter.diagnostics += alone.reporter.errors
                raise Unresolved
            draft.add_settings(numbered)
        return replace(step, copies=tuple(copies))

    def _single(
        self, name: str, path: str, model: schema.Modifiers, at: Path, draft: Draft, repeat: Literal | None
    ) -> Step:
        """A step, or one copy of it, with its modules at `path`."""
        self._settings(model, at, path, draft)
        stream = draft.stream if model.from_ is None else self._reference(model.from_, (*at, "from"), draft)
        step = Step(
            name,
            path,
            stream,
            tag=model.tag,
            take=model.take,
            repeat=repeat,
            place=self.reporter.key(at),
            body_place=self.reporter.value((*at, model.verb)),
            places=tuple((k, self.reporter.value((*at, k))) for k in PLACED if vars(model).get(k) is not None),
        )
        given = self._given(model.using, (*at, "using"), draft)
        step = self._with_verb(step, model, at, draft, given)
        step_inputs.check_taken(step, given, self.reporter)
        return step

    def _settings(self, model: schema.Settings, at: Path, path: str, draft: Draft) -> None:
        """Add the settings of the modules at `path`; a step and its body cannot have the same setting."""
        if SETTINGS.isdisjoint(model.model_fields_set):
            return
        links.add(model, at, path, draft, self.reporter)
        adapters.add(model, at, path, draft, self._parser(draft, at))
        found = read_setting(model, at, path, self.reporter, draft.scope)
        if found is None:
            return
        for key in ("frozen", "checkpoint"):
            if getattr(found, key) is not None and draft.set_first.setdefault((path, key), found) is not found:
                other = draft.set_first[path, key].place
                is_changed = (other.file, other.word) != (found.place.file, found.place.word)
                advice = f"write `{self.reporter.dotted((*at, key))}` to change it" if is_changed else "keep one"
                message, labels = f"`{key}` is set twice for `{path}`", (Label("first set here", other),)
                self.reporter.error("FC0142", message, found.place, path=path, labels=labels, advice=advice)
        draft.settings.append(found)

    def _with_verb(self, step: Step, model: schema.Modifiers, at: Path, draft: Draft, given: list[Given]) -> Step:
        def part(body: object, key: str, reads: Sequence[Given]) -> Applied:
            return self._part(body, (*at, key), f"{step.path}.{key}", draft, reads)

        def whole(body: object, reads: Sequence[Given] = given) -> tuple[tuple[str, Applied], ...]:
            return (("body", self._part(body, (*at, model.verb), step.path, draft, reads)),)

        def branches(models: Mapping[str, object], reads: Sequence[Given]) -> tuple[tuple[str, Applied], ...]:
            return self._branches(models, step, (*at, model.verb), draft, reads)

        match model:
            case schema.Split():
                parts = branches(model.split, given)
                merge: str | Applied = model.merge
                if model.merge not in schema.MERGES:
                    merge = self._merge(model.merge, at, step, draft)
                elif model.dim is not None and model.merge not in ("cat", "stack"):
                    message = f"`dim` does not apply to `merge: {model.merge}`"
                    self._fail("FC0125", message, self.reporter.key((*at, "dim")), step.name, "remove it")
                return with_verb(step, SplitStep, parts=parts, merge=merge, dim=1 if model.dim is None else model.dim)
            case schema.Gate():
                parts = branches(model.gate, [])
                router = part(model.router, "router", given)
                return with_verb(step, GateStep, parts=parts, router=router, top=self._top(model, at, draft))
            case schema.Switch():
                parts = branches(model.switch, [])
                router = part(model.router, "router", given)
                return with_verb(step, SwitchStep, parts=parts, router=router)
            case schema.Also():
                skip = part(model.skip, "skip", []) if model.skip is not None else None
                return with_verb(step, AlsoStep, parts=whole(model.also), skip=skip)
            case schema.Loop():
                wrong = loops.wrong_in(model, step.name)
                if wrong is not None:
                    place = self.reporter.key((*at, *wrong.where))
                    self._fail(wrong.code, wrong.message, place, step.name, wrong.advice)
                over = self._over(model, at, draft)
                loop = with_verb(step, LoopStep, parts=whole(model.loop, [*given, *over]))
                step_inputs.check_taken(loop, over, self.reporter)
                return self._loop(loop, model, at, draft)
            case schema.Map():
                return self._map(with_verb(step, MapStep, parts=whole(model.map)), model, at, draft)
            case schema.Graph():
                mounted = schema.MountedBody.model_construct(graph=model.graph, with_=model.with_)
                body = self._mounted(mounted, at, step.path, draft, given)
                return with_verb(step, GraphStep, parts=(("body", body),))
            case schema.Reuse():
                body = self._reuse(model, step, at, draft, given)
                return with_verb(step, ReuseStep, parts=(("body", body),))
            case schema.Through():
                return with_verb(step, ThroughStep, parts=whole(model.through))
            case schema.Fork():
                return with_verb(step, ForkStep, parts=whole(model.fork))
        raise AssertionError(model.verb)

    def _branches(
        self, models: Mapping[str, object], step: Step, at: Path, draft: Draft, given: Sequence[Given]
    ) -> tuple[tuple[str, Applied], ...]:
        if len(models) < 2:
            message = f"`{at[-1]}` requires at least 2 branches, got {len(models)} in `{step.name}`"
            self._fail("FC0145", message, self.reporter.key(at), step.name, "write `through` for one module")
        for name in models:
            if name in EXTRAS or reserved_names.refusal(name) or name in reserved_names.DICT_ATTRIBUTES:
                place = self.reporter.key((*at, name))
                self._fail("FC0126", f"a branch cannot be named `{name}`", place, step.name, f"write `{name}_`")
        return tuple(
            (name, self._part(body, (*at, name), f"{step.path}.{name}", draft, given)) for name, body in models.items()
        )

    def _top(self, model: schema.Gate, at: Path, draft: Draft) -> Literal | None:
        """The number of experts that a gate runs for each row."""
        top, most = self._count(model.top, (*at, "top"), draft), len(model.gate)
        if top is not None and isinstance(top.value, int) and top.value > most:
            message = f"`top` must be at most {most}, the number of experts, got `{top.value}`"
            self._fail(
                "FC0123", message, self.reporter.value((*at, "top")), str(at[-1]), "remove it to run all experts"
            )
        return top

    def _loop(self, step: LoopStep, model: schema.Loop, at: Path, draft: Draft) -> LoopStep:
        """The step with the fields that determine its number of iterations."""
        if model.over is not None:
            return replace(step, dim=1 if model.dim is None else model.dim)
        if model.times is not None:
            return replace(step, times=self._count(model.times, (*at, "times"), draft))
        halt, body = ("while", model.while_) if model.while_ is not None else ("until", model.until)
        condition = self._part(body, (*at, halt), f"{step.path}.condition", draft, [])
        return replace(step, times=self._count(model.max, (*at, "max"), draft), condition=condition, halt=halt)

    def _over(self, model: schema.Loop, at: Path, draft: Draft) -> list[Given]:
        """The values of `over`: arguments of the body, one slice in each iteration."""
        found = self._given(model.over, (*at, "over"), draft)
        for one in found:
            if one.value.recurrent:
                message = f"`over` requires an earlier value, but `{one.value}` comes after this step"
                self._fail("FC0141", message, one.value.place, dotted(at), f"put this step after `{one.value}`")
            one.value = replace(one.value, sliced=True)
        return found

    def _map(self, step: MapStep, model: schema.Map, at: Path, draft: Draft) -> MapStep:
        over = self._reference(model.over, (*at, "over"), draft) if model.over is not None else None
        slices = self._count(model.slices, (*at, "slices"), draft)
        if slices is not None and (model.dim is not None or model.batched):
            key = "dim" if model.dim is not None else "batched"
            self._fail(
                "FC0125", f"`{key}` does not apply with `slices`", self.reporter.key((*at, key)), step.name, "remove it"
            )
        dim = 1 if model.dim is None else model.dim
        if model.batched and dim == 0:
            self._fail(
                "FC0123",
                "a batched map cannot map over dimension 0, the batch",
                self.reporter.value((*at, "dim")),
                step.name,
            )
        over = None if over == step.stream else over
        return replace(step, over=over, stream=over or step.stream, dim=dim, batched=model.batched, slices=slices)

    def _merge(self, text: str, at: Path, step: Step, draft: Draft) -> Applied:
        place = self.reporter.value((*at, "merge"))
        name = text.split("(")[0].strip()
        if name in schema.MERGES:
            dim = " with `dim: ...` beside it" if name in ("cat", "stack") else ""
            self._fail("FC0131", f"`{name}` takes no arguments here", place, step.name, f"write `merge: {name}`{dim}")
        if name.isidentifier() and name not in modules:
            close = other_tools.meant(name, vocabulary.MERGES, schema.MERGES) or nearest(name, schema.MERGES)
            advice = Suggestion(close, name) if close else modules.advice_for(name, also=schema.MERGES)
            self._fail("FC0132", f"unknown merge `{name}`", place, step.name, advice)
        return self._part(text, (*at, "merge"), f"{step.path}.merge", draft, [])

    # bodies

    def _part(self, model: object, at: Path, path: str, draft: Draft, given: Sequence[Given]) -> Applied:
        """The body at `at` of the document and `path` of the graph, with its arguments among those `given`."""
        if isinstance(model, schema.Settings):
            self._settings(model, at, path, draft)
        if isinstance(model, str):
            return self._chain(model, at, path, draft, given)
        if isinstance(model, schema.CallBody):
            return self._chain(model.through, (*at, "through"), path, draft, given)
        if isinstance(model, schema.InlineBody):
            plan, inner = self._document(model, at, _last(path), draft, {})
            return self._mount(plan, inner, (), at, path, given)
        if isinstance(model, schema.MountedBody):
            return self._mounted(model, at, path, draft, given)
        place = self.reporter.value(at)
        if isinstance(model, type) or not hasattr(model, "named_parameters"):
            kind = f", got the class `{model.__name__}`" if isinstance(model, type) else ""
            advice = f'write `"{model.__name__}()"`' if isinstance(model, type) else None
            self._fail("FC0123", f"`{dotted(at)}` must be a call, a mapping or a module{kind}", place, path, advice)
        return Applied(path, Instance(model, place), taken(given, lambda name: True))

    def _chain(self, text: str, at: Path, path: str, draft: Draft, given: Sequence[Given]) -> Applied:
        calls = self._parser(draft, at).chain(text, self.reporter.value(at))
        if calls is None:
            raise Unresolved
        if len(calls) == 1:
            return self._call(calls[0], path, given)
        return Applied(path, Chain(tuple(self._call(call, f"{path}.{i}", given) for i, call in enumerate(calls))))

    def _call(self, call: Call, path: str, given: Sequence[Given]) -> Applied:
        forward = modules.class_source(call.name).forward
        accepted = taken(given, lambda name: forward.takes(name) and forward.positional[:1] != [name])
        is_all = all(one.is_taken for one in given)
        missing = forward.missing(1, {name for name, _ in accepted}) if is_all else []
        if missing:
            message = f"`{call.name}` requires the argument `{missing[0]}`"
            self.reporter.error(
                "FC0147", message, call.place, path=path, advice=step_inputs.to_fill(missing[0], call.name)
            )
        return Applied(path, call, accepted)

    def _mounted(self, model: schema.MountedBody, at: Path, path: str, draft: Draft, given: Sequence[Given]) -> Applied:
        where = (*at, "graph")
        if isinstance(model.graph, str):
            self._fail("FC0105", f"the graph `{model.graph}` was not found", self.reporter.value(where), path)
        assert isinstance(model.graph, schema.GraphDocument)
        params = parameters.given_by(model, at, self._parser(draft, at), self.reporter)
        around = None if where in self.reporter.origins.mounts else draft
        plan, inner = self._document(model.graph, where, _last(path), around, params)
        return self._mount(plan, inner, tuple(params.items()), at, path, given)

    def _mount(
        self,
        plan: GraphPlan,
        inner: Draft,
        params: tuple[tuple[str, Literal], ...],
        at: Path,
        path: str,
        given: Sequence[Given],
    ) -> Applied:
        accepted = taken(given, lambda name: plan.input(name) is not None)
        inner.hand_on(path)
        asked = self.reporter.origins.mounts.get((*at, "graph"))
        mount = Mount(plan, params, tuple(inner.shares.items()), asked.place if asked else self.reporter.value(at))
        return Applied(path, mount, (*accepted, *inner.captures.items()))

    def _reuse(self, model: schema.Reuse, step: Step, at: Path, draft: Draft, given: Sequence[Given]) -> Applied:
        place = self.reporter.value((*at, "reuse"))
        try:
            found = draft.find_module(model.reuse, step.path)
        except NotFound as problem:
            head = model.reuse.split(".")[0]
            if draft.is_broken(head):
                raise Unresolved from None
            if draft.comes_later(head):
                what = "is this step" if head == step.name else "comes later"
                message = f"`reuse` requires an earlier step, but `{head}` {what}"
                self._fail("FC0141", message, place, step.name, "define the module in the earlier step, and reuse it")
            whole = draft.step(model.reuse)
            if whole is not None and whole.repeat is not None:
                advice = f"write `{model.reuse}.0` for one, or repeat the step in a `graph`, and reuse the graph"
                self._fail("FC0141", problem.message, place, step.name, advice)
            self._nowhere(problem, model.reuse, place, dotted(at), draft)
        assert found.applied is not None
        module, path = found.applied.target, found.path
        if isinstance(module, Chain):
            members = tuple(
                self._call(member.module, f"{path}.{i}", given)
                for i, member in enumerate(module.members)
                if isinstance(member.module, Call)
            )
            return Applied(step.path, Shared(path, Chain(members), place, found.home))
        if isinstance(module, Call):
            accepted = self._call(module, path, given).using
        elif isinstance(module, Mount):
            inputs = {entry.name for entry in module.graph.inputs}
            accepted = (*taken(given, inputs.__contains__), *found.captures)
        else:
            accepted = taken(given, lambda name: True)
        return Applied(step.path, Shared(path, module, place, found.home), accepted)


def _with_records(step: Step, draft: Draft) -> Step:
    """The step with the names in its stream and output."""
    copies = tuple(_with_records(copy, draft) for copy in step.copies)
    own, given = step_inputs.record(step), references.record_of(draft, step.stream)
    if own is None and given is None and not copies:
        return step
    return replace(step, record=own, stream_record=given, copies=copies)


def _last(path: str) -> str:
    return path.rsplit(".", 1)[-1]
