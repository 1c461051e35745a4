"""Resolves what steps read: references, the arguments of `using`, outputs and counts."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from typing import NoReturn, cast

from flowconf.language import references, schema
from flowconf.language.arguments import Literal
from flowconf.language.plan import Applied, Chain, Shared, Step, Value
from flowconf.language.references import NoReference, NotFound
from flowconf.language.resolve import parameters
from flowconf.language.resolve.calls import CallParser
from flowconf.language.resolve.draft import Draft
from flowconf.language.resolve.step_inputs import Given
from flowconf.report import Advice, Label, Place, Reporter
from flowconf.report.origins import Document, Path, dotted


class Unresolved(Exception):
    """The member cannot be resolved; the error is in the reporter."""


class Reading:
    """Resolves what the steps of one document read, with access to the places of its keys and values."""

    def __init__(self, document: Document, reporter: Reporter, asked: Collection[str]) -> None:
        self.document, self.reporter, self.asked = document, reporter, asked
        self.unused = Reporter(reporter.origins)
        self.copies = 1
        """The number of copies, with those of steps around, that are resolved one by one."""

    def _given(self, written: schema.Using | None, at: Path, draft: Draft) -> list[Given]:
        """The values of `using` or `over` at `at` of the document; in a mapping, at the names of their arguments."""
        match written:
            case None:
                return []
            case str(text):
                entries: list[tuple[str, str, Path]] = [(_written_name(text), text, at)]
            case list(texts):
                entries = [(_written_name(text), text, (*at, number)) for number, text in enumerate(texts)]
            case dict(mapping):
                entries = [(name, text, (*at, name)) for name, text in mapping.items()]
        place = self.reporter.key if isinstance(written, dict) else self.reporter.value
        found = [(name, self._reference(text, where, draft), where) for name, text, where in entries]
        return [Given(str(at[-1]), name, value, place(where)) for name, value, where in found]

    def _reference(self, text: str, at: Path, draft: Draft) -> Value:
        place = self.reporter.value(at)
        try:
            return replace(draft.find(text), place=place)
        except NoReference as problem:
            self._nowhere(problem, text, place, dotted(at), draft)
        except NotFound as problem:
            head = text.split(".")[0].split("[")[0]
            if draft.is_broken(head):
                raise Unresolved from None
            if draft.comes_later(head):
                return draft.later(text.strip(), place)
            self._nowhere(problem, text, place, dotted(at), draft)

    def _meet_awaited(self, draft: Draft) -> None:
        """Resolve references to later members, now that all members are known."""
        met: dict[str, Value] = {}
        for text, place in draft.awaited.items():
            try:
                met[text] = replace(references.find(draft, text), recurrent=True)
            except NotFound as problem:
                if draft.is_broken(references.split(text)[0][0]):
                    continue
                with suppress(Unresolved):
                    self._nowhere(problem, text, place, dotted(draft.path), draft)

        def meant(value: Value) -> Value:
            return replace(met[value.member], place=value.place) if value.recurrent and value.member in met else value

        draft.steps = [_with_values(step, meant) for step in draft.steps] if met else draft.steps

    def _nowhere(self, problem: NotFound, text: str, place: Place, path: str, draft: Draft) -> NoReturn:
        """Report an unknown reference; several with the same cause are reported once."""
        message = problem.seen_from(draft.title).message
        advice, labels = problem.advice_for(text), cast(tuple[Label, ...], ())
        first = text.split(".")[0].split("[")[0].strip()
        removed = draft.removal(first, self.document)
        if removed is not None:
            message, labels = f"`{removed[0]}` is used here, but was removed", (Label("removed here", removed[1]),)
            advice = "remove this as well, or use another value"
        lacking = first if problem.wrong == first and removed is None else ""
        cause = (first, draft.title, removed is not None)
        self.reporter.missing(lacking, "FC0141", message, place, path=path, cause=cause, advice=advice, labels=labels)
        raise Unresolved

    def _outputs(self, model: schema.GraphDocument, draft: Draft) -> tuple[tuple[str, Value], ...]:
        if model.outputs is None:
            return ((draft.stream.member, draft.stream),)
        found = []
        for name, text in model.outputs.items():
            try:
                found.append((name, self._reference(text, (*draft.path, "outputs", name), draft)))
            except Unresolved:
                continue
        return tuple(found)

    def _parser(self, draft: Draft, at: Path) -> CallParser:
        return CallParser(draft.scope, self.reporter, dotted(at), draft.named)

    def _fail(self, code: str, message: str, place: Place, path: str, advice: Advice | None = None) -> NoReturn:
        self.reporter.error(code, message, place, path=path, advice=advice)
        raise Unresolved

    def _count(self, value: int | str | None, at: Path, draft: Draft) -> Literal | None:
        """A positive integer, or an expression of parameters."""
        if value is None:
            return None
        found = parameters.count(value, at, self._parser(draft, at), self.reporter.value(at), self.reporter)
        if found is None:
            raise Unresolved
        return found


def _written_name(text: str) -> str:
    """The last name of a reference: the argument that the value fills."""
    return text.split("[")[0].rsplit(".", 1)[-1].strip()


def _with_values(step: Step, change: Callable[[Value], Value]) -> Step:
    """The step with `change` applied to every value that it reads."""

    def applied(one: Applied) -> Applied:
        using = tuple((name, change(value)) for name, value in one.using)
        module = one.module
        if isinstance(module, Chain):
            module = Chain(tuple(applied(member) for member in module.members))
        elif isinstance(module, Shared) and isinstance(module.module, Chain):
            module = replace(module, module=Chain(tuple(applied(member) for member in module.module.members)))
        return replace(one, module=module, using=using)

    own = {name: applied(module) for name, module in step.modules_beside.items()}
    read = {name: change(value) for name, value in step.own.items() if isinstance(value, Value)}
    parts = tuple((name, applied(part)) for name, part in step.parts)
    copies = tuple(_with_values(copy, change) for copy in step.copies)
    return replace(step, stream=change(step.stream), parts=parts, copies=copies, **own, **read)  # type: ignore[arg-type]
