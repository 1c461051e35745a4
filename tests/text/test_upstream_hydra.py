"""What flowconf relies on in Hydra and OmegaConf, so that an upgrade that changes it is noticed here."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version as installed

import pytest


def test_the_versions_are_those_that_were_measured() -> None:
    assert installed("hydra-core").startswith("1.3.")
    assert installed("omegaconf").startswith("2.3.")


def test_reading_needs_no_hydra() -> None:
    code = (
        "import sys; from flowconf.text.documents import read; import flowconf.text.compose; "
        "read('x.yaml', 'a: 1'); assert not {'hydra', 'omegaconf', 'torch', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("word", ["x=Linear(1, 2)", "x=A >> B", "x=nn.Linear(1)"])
def test_hydra_cannot_read_calls_by_itself(word: str) -> None:
    from flowconf.text import grammars

    with pytest.raises(ValueError, match=r"Linear|mismatched|Viable"):
        grammars.parse_override(word)


def test_the_functions_of_the_grammar_are_all_in_small_letters() -> None:
    from flowconf.text import grammars

    functions = grammars.override_functions()
    assert {"choice", "range", "interval", "glob", "sort", "shuffle", "tag", "int", "float", "str", "bool"} == functions


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("x=1", "is_change"),
        ("+x=1", "is_add"),
        ("++x=1", "is_force_add"),
        ("~x", "is_delete"),
        ("x=1,2", "is_sweep_override"),
    ],
)
def test_overrides_say_what_they_are(word: str, kind: str) -> None:
    from flowconf.text import grammars

    parsed = grammars.parse_override(word)
    kinds = ("is_add", "is_force_add", "is_delete", "is_sweep_override")
    assert [name for name in kinds if getattr(parsed, name)()] == ([] if kind == "is_change" else [kind])
    assert (parsed.key_or_group, parsed.input_line) == ("x", word)


def test_a_group_cannot_be_null_on_the_command_line() -> None:
    from hydra._internal.config_repository import ConfigRepository
    from hydra._internal.defaults_list import Overrides

    from flowconf.text import grammars

    class Groups(ConfigRepository):
        def __init__(self) -> None:
            pass

        def group_exists(self, config_path: str) -> bool:
            return True

    with pytest.raises(ValueError, match="must be a string or a list"):
        Overrides(Groups(), [grammars.parse_override("pivot=null")])
    assert grammars.as_choice(grammars.parse_override("pivot=null")).input_line == "~pivot"


def test_the_grammar_of_interpolations_calls_back() -> None:
    from flowconf.text import grammars

    seen: list[object] = []

    def refer(key: str, memo: object) -> int:
        seen.append(key)
        return 7

    def call(name: str, args: tuple[object, ...], args_str: tuple[str, ...]) -> str:
        seen.append((name, args, args_str))
        return "y"

    assert grammars.evaluate("a${.b.c[0]}-${f:1,x}", refer, call) == "a7-y"
    assert seen == [".b.c[0]", ("f", (1, "x"), ("1", "x"))]
    assert grammars.evaluate("${b}", refer, call) == 7


def test_resolvers_can_be_called_from_outside_of_a_config(monkeypatch: pytest.MonkeyPatch) -> None:
    from flowconf.text import grammars

    monkeypatch.setenv("FLOWCONF_X", "here")
    assert grammars.call_resolver("oc.env", ("FLOWCONF_X",), ("FLOWCONF_X",)) == "here"
    assert grammars.has_resolver("now")
    assert not grammars.has_resolver("eval")


def test_the_words_of_hydras_complaints() -> None:
    """`defaults.explained` reads the kind of mistake from these."""
    import inspect

    from hydra._internal import config_loader_impl, defaults_list

    text = inspect.getsource(defaults_list) + inspect.getsource(config_loader_impl)
    for words in (
        "Could not override '",
        "No match in the defaults list",
        "Did you mean to override ",
        "Could not delete '",
        "You must specify '",
        "Multiple values for ",
        " appears more than once in the final defaults list",
    ):
        assert words in text


def test_the_sweeper_multiplies_what_is_swept() -> None:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(["seed=0,1,2", "a=range(0,4)", "b=5", "seed=0,1"])
    (combinations,) = BasicSweeper.split_arguments(parsed, None)
    assert len(combinations) == 8
    assert combinations[-1] == ["seed=1", "a=3", "b=5"]
