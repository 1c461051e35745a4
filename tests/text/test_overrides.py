"""The words of the command line: quoting, parsing, and what each does to a config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowconf.api import check, compose
from flowconf.report import ConfigError, Diagnostic
from flowconf.text.compose import Composition
from flowconf.text.overrides import parse
from flowconf.text.quoting import quoted

CONFIGS = Path(__file__).parents[2] / "configs"


def value(word: str) -> Any:
    (override,) = parse([word])
    found = override.parsed
    return list(found.sweep_string_iterator()) if found.is_discrete_sweep() else found.value()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("x=Linear(784,256)", "Linear(784,256)"),
        ("x=Linear(784, ${width})", "Linear(784, ${width})"),
        ("x=nn.Linear(1,2)", "nn.Linear(1,2)"),
        ("x=GELU()", "GELU()"),
        ("x=Linear(1,2) >> ReLU", "Linear(1,2) >> ReLU"),
        ("x=ReLU >> Linear(_, 2)", "ReLU >> Linear(_, 2)"),
        ("x=Conv2d(1, 8, 3, padding='same')", "Conv2d(1, 8, 3, padding='same')"),
        ('x=Conv2d(1, 8, padding="same")', 'Conv2d(1, 8, padding="same")'),
        ("x=Foo('a', \"b\")", "Foo('a', \"b\")"),
        ("x=Foo(['a', {b: 1}])", "Foo(['a', {b: 1}])"),
        ("+x={through: Dropout(0.1), after: hidden}", {"through": "Dropout(0.1)", "after": "hidden"}),
        ("x={split: {a: Linear(1,2), b: [ReLU, L(2)]}}", {"split": {"a": "Linear(1,2)", "b": ["ReLU", "L(2)"]}}),
        ("x=[ReLU,Linear(1,2)]", ["ReLU", "Linear(1,2)"]),
        ("x=2*(width+1)", "2*(width+1)"),
        ("x=é#!", "é#!"),
        ("x='Linear(1,2)'", "Linear(1,2)"),
        ("x=Linear\\(1\\,2\\)", "Linear(1,2)"),
        ("x=LayerNorm(${eval:'1+2'})", "LayerNorm(${eval:'1+2'})"),
        ("x=${oc.env:HOME,elsewhere}", "${oc.env:HOME,elsewhere}"),
        ("x={url: http://a:80/b}", {"url": "http://a:80/b"}),
        ("x={a:[1,2],b:'c,d'}", {"a": [1, 2], "b": "c,d"}),
        ("x=1e-3", 0.001),
        ("x=null", None),
        ("x=true", True),
        ("x=yes", "yes"),
        ("x=012", "012"),
        ("x=", ""),
        ("x=str(3)", "3"),
        ("~x", None),
        ("~x=Linear(1,2)", "Linear(1,2)"),
        ("a[0].b[12]=1", 1),
    ],
)
def test_a_word_has_its_value(word: str, expected: object) -> None:
    assert value(word) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("x=Linear(1,2),Linear(3,4)", ["'Linear(1,2)'", "'Linear(3,4)'"]),
        ("x=choice(Linear(1,2),ReLU)", ["Linear\\(1\\,2\\)", "ReLU"]),
        ("x=A(1) >> B, C", ["'A(1) >> B'", "C"]),
        ("x=range(1,4)", ["1", "2", "3"]),
        ("x=sort(B(2),A(1))", ["A\\(1\\)", "B\\(2\\)"]),
        ("x=1,2,3", ["1", "2", "3"]),
    ],
)
def test_a_sweep_has_its_values(word: str, expected: list[str]) -> None:
    assert value(word) == expected


@pytest.mark.parametrize(
    "word", ["x=1", "x=[1,2]", "pivot=none", "graph@a.b=c", "x=${width}", "x={a: 1}", "~x", "x=a b"]
)
def test_plain_words_are_not_touched(word: str) -> None:
    assert quoted(word) == word


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("seed", "write `seed=value` or `~seed`"),
        ("x=Linear(1", "missing `)`"),
        ("x=Linear 1)", "unmatched `)`"),
        ("x='a", "missing `'`"),
        ("x=a=b", "not a valid override"),
        (f"x={'9' * 5000}", "has a number with too many digits"),
        ("=3", "not a valid override"),
        ("", "not a valid override"),
        ("~", "not a valid override"),
        ("a b=1", "not a valid override"),
        ("optimizer.groups.**:norm.lr=1", 'write `optimizer.groups={"**:norm": {lr: 1}}`'),
        ("+loss.*=null", 'write `+loss={"*": null}`'),
        ("x=" + "[" * 500 + "]" * 500, "deeper than 64"),
        ("a" + ".a" * 500 + "=1", "at most 64 parts"),
    ],
)
def test_a_word_that_cannot_be_read(word: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(["fine=1", word])
    (one,) = caught.value.diagnostics
    assert one.code == "FC0103"
    assert words in f"{one.message} {one.help}"


@given(st.text(alphabet="abx=+~.,()[]{}'\"\\$:@/0 #>é", max_size=30))
def test_any_word_is_read_or_refused(word: str) -> None:
    codes = {"FC0103"}
    try:
        parse([word])
    except ConfigError as error:
        codes = {one.code for one in error.diagnostics}
    assert codes == {"FC0103"}


@given(st.text(alphabet="ab(),'\"\\ >[]{}:=#é$", min_size=1, max_size=20))
def test_quotes_come_off_again(text: str) -> None:
    from flowconf.text import grammars

    assert grammars.parse_override(f"x={grammars.quote(text)}").value() == text


MAIN = {
    "configs/main.yaml": """
        model:
          params: {width: 128}
          inputs: {image: [B, 784]}
          flow:
            stem: Linear(784, width)
            hidden: GELU
            residual:
              also: Linear(width, width)
              tag: res
            removed: null
            heads:
              split: {a: "Linear(1, 2)", b: {flow: {x: ReLU}}}
              merge: add
            letters:
              map:
                graph: letter
                label: letter
              over: stem
        trainer: {epochs: 20}
        seed: 0
        items: [{n: 1}, {n: 2}]
        """,
    "configs/graph/letter.yaml": "flow:\n  read: Linear(3, 4)\n  sub: {graph: part}\n",
    "configs/graph/part.yaml": "flow: {a: GELU}\n",
}


@pytest.mark.parametrize(
    ("words", "path", "expected"),
    [
        (["model.flow.hidden=Linear(784, 256)"], "model.flow.hidden", "Linear(784, 256)"),
        (["model.params.width=256"], "model.params.width", 256),
        (["model.inputs.image[1]=100"], "model.inputs.image", ["B", 100]),
        (["model.inputs.image.0=C"], "model.inputs.image", ["C", 784]),
        (["items[1].n=5"], "items", [{"n": 1}, {"n": 5}]),
        (["trainer.clip=1"], "trainer.clip", 1),
        (["loss.label.weight=0.5"], "loss", {"label": {"weight": 0.5}}),
        (["+extra.deep.key=1"], "extra", {"deep": {"key": 1}}),
        (["++seed=7"], "seed", 7),
        (["++new=7"], "new", 7),
        (["+trainer={clip: 1}"], "trainer", {"epochs": 20, "clip": 1}),
        (["~trainer.epochs"], "trainer", {}),
        (["~trainer.epochs=20"], "trainer", {}),
        (["~items.0"], "items", [{"n": 2}]),
        (["~trainer.epochs", "+trainer.epochs=3"], "trainer.epochs", 3),
        (["model.flow.residual=null"], "model.flow.residual", None),
        (["~model.flow.residual"], "model.flow.residual", None),
        (["~model.flow.removed"], "model.flow.removed", None),
        (["~model.flow.residual.tag"], "model.flow.residual", {"also": "Linear(width, width)"}),
        (["model.flow.residual={through: GELU}"], "model.flow.residual", {"through": "GELU"}),
        (["++model.flow.residual={through: GELU}"], "model.flow.residual", {"through": "GELU"}),
        (["model.flow.residual={also: GELU}"], "model.flow.residual", {"also": "GELU", "tag": "res"}),
        (["model.flow.residual=GELU"], "model.flow.residual", "GELU"),
        (["model.flow.removed=GELU"], "model.flow.removed", "GELU"),
        (["+model.flow.removed={through: GELU}"], "model.flow.removed", {"through": "GELU"}),
        (["model.flow.residual=null", "+model.flow.residual=B"], "model.flow.residual", "B"),
        (["model.flow.stem.frozen=true"], "model.flow.stem", {"through": "Linear(784, width)", "frozen": True}),
        (["model.flow.residual.frozen=true"], "model.flow.residual.frozen", True),
        (["model.flow.letters.map.frozen=false"], "model.flow.letters.map.frozen", False),
        (
            ["model.flow.stem.checkpoint={config: a.yaml}", "model.flow.stem.checkpoint.unused=ignore"],
            "model.flow.stem.checkpoint",
            {"config": "a.yaml", "unused": "ignore"},
        ),
        (["model.flow.letters.map.with.width=3"], "model.flow.letters.map.with", {"width": 3}),
        (
            ["model.flow.heads.split.a.frozen=true"],
            "model.flow.heads.split.a",
            {"through": "Linear(1, 2)", "frozen": True},
        ),
        (["model.flow.heads.split.b.frozen=true"], "model.flow.heads.split.b", {"flow": {"x": "ReLU"}, "frozen": True}),
        (
            ["model.flow.letters.map.graph.flow.read.frozen=false"],
            "model.flow.letters.map.graph.flow.read",
            {"through": "Linear(3, 4)", "frozen": False},
        ),
        (
            ["model.flow.letters.map.graph=part", "model.flow.letters.map.graph.flow.a=ReLU"],
            "model.flow.letters.map.graph",
            {"flow": {"a": "ReLU"}},
        ),
        (
            ["+model.flow.drop={through: Dropout(0.1), after: hidden}"],
            "model.flow.drop",
            {"through": "Dropout(0.1)", "after": "hidden"},
        ),
    ],
)
def test_what_words_do(composed: Callable[..., Composition], words: list[str], path: str, expected: object) -> None:
    found: Any = composed(MAIN, *words).document.data
    for step in path.split("."):
        found = found[step]
    assert found == expected


def test_keys_in_quotes_may_be_any_selector() -> None:
    word = """+optimizer.groups={"**:norm": {lr: 0.1}, 'a b.*': 1, "x,y=\\\\(z)": "p:q", plain.0: [2]}"""
    (found,) = parse([word])
    wanted = {"**:norm": {"lr": 0.1}, "a b.*": 1, "x,y=\\\\(z)": "p:q", "plain.0": [2]}
    assert found.parsed.value() == wanted


@pytest.mark.parametrize("word", ["model.flow.residual={through: A}", "model.flow.residual=A", "~model.flow.residual"])
def test_a_replaced_step_keeps_its_place_in_the_order(composed: Callable[..., Composition], word: str) -> None:
    plain, changed = composed(MAIN), composed(MAIN, word)
    assert list(changed.document.data["model"]["flow"]) == list(plain.document.data["model"]["flow"])


LETTERS = "model.flow.words.map.graph.flow.letters.map.graph.flow"


@pytest.mark.parametrize(
    ("word", "place"),
    [
        ("word.letter.latent=ReLU", f"{LETTERS}.latent=ReLU"),
        ("model.word.letter.read.think.frozen=true", f"{LETTERS}.read.loop.flow.think.frozen=true"),
        ("model.flow.word.letters.latent=ReLU", f"{LETTERS}.latent=ReLU"),
        ("~model.flow.word.letter.reproduction", f"~{LETTERS}.reproduction"),
        ("+model.word.tune=ReLU", "+model.flow.words.map.graph.flow.tune=ReLU"),
        ("+model.flow.words.map.flow.tune=ReLU", "+model.flow.words.map.graph.flow.tune=ReLU"),
        ("word.leter.latent=ReLU", f"{LETTERS}.latent=ReLU"),
        ("word.letter.latnt.frozn=true", f"{LETTERS}.latent.frozen=true"),
    ],
)
def test_a_path_in_the_graph_is_answered_with_the_place_in_the_document(word: str, place: str) -> None:
    """Summaries, losses and selectors write paths; the key of a word is a place in the document."""
    with pytest.raises(ConfigError) as raised:
        compose(CONFIGS / "fbrl_line.yaml", [word])
    assert [(one.code, one.help) for one in raised.value.diagnostics] == [("FC0102", f"write `{place}`")]


@pytest.mark.parametrize(
    ("word", "code", "advice"),
    [
        ("model.flow.hiden=ReLU", "FC0102", "write `model.flow.hidden=ReLU`"),
        ("modl.flow.hidden=ReLU", "FC0102", "write `model.flow.hidden=ReLU`"),
        ("model.flow.letters.map.graph.flow.raed.frozen=false", "FC0102",
         "write `model.flow.letters.map.graph.flow.read.frozen=false`"),
        ("model.flow.stem.frozn=true", "FC0102", "write `model.flow.stem.frozen=true`"),
        ("model.flow.letters.map.frozn=true", "FC0102", "write `model.flow.letters.map.frozen=true`"),
        ("model.flow.heads.split.frozen=true", "FC0102", "available keys: `a`, `b`; to add a new key, write "
         "`+model.flow.heads.split.frozen=true`"),
        ("trainer.epoch=3", "FC0102", "write `trainer.epochs=3`"),
        ("trainer.clp=3", "FC0102", "write `trainer.clip=3`"),
        ("loss.label.wieght=3", "FC0102", None),
        ("~sed", "FC0102", "write `~seed`"),
        ("~seed=1", "FC0102", "write `~seed`"),
        ("+seed=1", "FC0102", "write `seed=1`"),
        ("seed.x=1", "FC0102", None),
        ("+seed.x=1", "FC0102", None),
        ("items.5=1", "FC0102", "available keys: `0`, `1`"),
        ("+items.5=1", "FC0102", "available keys: `0`, `1`"),
        ("++items.x=1", "FC0102", "available keys: `0`, `1`"),
        ("model.flow.removed.frozen=true", "FC0102", None),
        ("model.flow.new={through: A}", "FC0102", None),
        ("seed=1,2", "FC0103", "add `-m` to sweep, or write `seed=[...]` for a list"),
        ("model.flow.letters.map.graph=lettr", "FC0105", "write `letter`"),
        ("seed=${trainer.epoch}", "FC0009", "write `${trainer.epochs}`"),
    ],
)  # fmt: skip
def test_what_words_cannot_do(
    refused: Callable[..., tuple[Diagnostic, ...]], word: str, code: str, advice: str | None
) -> None:
    (one,) = refused(MAIN, word)
    assert (one.code, one.place.word, one.place.file) == (code, word, None)
    if advice is not None:
        assert one.help == advice


def test_a_word_shows_what_it_meets(refused: Callable[..., tuple[Diagnostic, ...]]) -> None:
    (one,) = refused(MAIN, "model.flow.removed.frozen=true")
    assert one.message == "`model.flow.removed.frozen` does not exist: `model.flow.removed` is removed"
    assert (one.labels[0].message, one.labels[0].place.line) == ("removed here", 11)


def test_the_origin_is_the_word_and_the_history_the_file(composed: Callable[..., Composition]) -> None:
    origins = composed(MAIN, "seed=3", "~trainer.epochs", "~model.flow.residual", "++seed=4").document.origins
    assert origins.value(("seed",)).word == origins.key(("seed",)).word == "++seed=4"
    assert [place.word or place.line for place in origins.history(("seed",))] == [21, "seed=3"]
    assert [place.word or place.line for place in origins.history(("trainer", "epochs"))] == [20, "~trainer.epochs"]
    assert origins.value(("model", "flow", "residual")).word == "~model.flow.residual"


@pytest.mark.parametrize("value", ["read.at[0]", "rep[-1]", "a{b}c"])
def test_a_value_with_brackets_is_a_text(value: str) -> None:
    alone, in_list = parse([f"loss.label.input={value}", f"loss.label.input=[{value}, b]"])
    assert (alone.parsed.value(), in_list.parsed.value()) == (value, [value, "b"])


def test_keys_that_a_verb_may_have_are_set_without_a_plus() -> None:
    verbs = Path(__file__).parents[1] / "mistakes" / "base" / "verbs.yaml"
    composed = compose(verbs, ["flow.experts.top=1", "flow.residual.skip=Linear(16, 16)"])
    flow = composed.document.data["flow"]
    assert (flow["experts"]["top"], flow["residual"]["skip"]) == (1, "Linear(16, 16)")


def test_brackets_in_quotes_close_nothing() -> None:
    assert [one.key for one in parse(["a='('", "b=')'", "c=[1, 2]"])] == ["a", "b", "c"]


def test_all_unreadable_words_come_at_once(refused: Callable[..., tuple[Diagnostic, ...]]) -> None:
    assert len(refused(MAIN, "seed", "x=(", "seed=3", "a==b")) == 3


def test_a_section_that_the_config_leaves_out_is_set(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("model: {inputs: {x: [B, 4]}, flow: {a: GELU}}\ndata: {name: digits}\nloss: {}\n")
    for word in ("schedule={name: cosine}", "+schedule={name: cosine}"):
        assert compose(file, [word]).document.origins.root.plain()["schedule"] == {"name": "cosine"}


@pytest.mark.parametrize("word", ["extra=null", "~extra", "+extra=null"])
def test_none_of_a_listed_group_without_a_folder(composed: Callable[..., Composition], word: str) -> None:
    texts = {"configs/main.yaml": "defaults: [_self_, {extra: null}]\nseed: 0\n"}
    assert composed(texts, word).document.data == {"seed": 0}


def test_an_option_of_a_listed_group_without_a_folder(refused: Callable[..., tuple[Diagnostic, ...]]) -> None:
    texts = {"configs/main.yaml": "defaults: [_self_, {extra: null}]\nseed: 0\n"}
    (found,) = refused(texts, "extra=big")
    assert (found.code, found.message) == ("FC0101", "there is no config group `extra`")
    assert "`extra/big.yaml` was searched for in `configs`" in str(found.advice)


@pytest.mark.parametrize("words", [["~schedule"], ["schedule=null"], ["+pivot=plain"], ["~schedule", "seed=1"]])
def test_a_section_without_a_group_in_the_defaults_is_removed(
    files: Callable[[dict[str, str]], Path], words: list[str]
) -> None:
    text = "model: {inputs: {x: [B, 4]}, flow: {a: GELU}}\nschedule: {name: cosine}\ndata: {name: digits}\nloss: {}\n"
    pivot = "# @package _global_\nschedule: null\n"
    folder = files({"configs/base.yaml": text, "configs/pivot/plain.yaml": pivot})
    files({"configs/main.yaml": "defaults: [base, _self_]\nseed: 0\n"})
    for name in ("base", "main"):
        data = compose(folder / "configs" / f"{name}.yaml", words).document.data
        assert "schedule" not in data
        assert data["data"] == {"name": "digits"}


def test_an_empty_section_is_reported(files: Callable[[dict[str, str]], Path]) -> None:
    text = "model: {inputs: {x: [B, 4]}, flow: {a: GELU}}\nschedule:\ndata: {name: digits}\nloss: {}\n"
    found = [one.message for one in check(files({"main.yaml": text}) / "main.yaml")]
    assert "`schedule` must be a schedule, or a list of them, but has no value" in found
