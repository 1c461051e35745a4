"""A part of a call is marked where it stands in the file, however the call is written there."""

from __future__ import annotations

import pytest

import flowconf

HEAD = {"yaml": "inputs: {x: [B, 8]}\nflow:\n", "toml": 'inputs.x = ["B", 8]\n'}
WRITTEN = {
    "yaml": [
        "  a: Linear(8, 8) >> Liner(8, 8)\n",
        '  a: "Linear(8, 8) >> Liner(8, 8)"\n',
        "  a: 'Linear(8, 8) >> Liner(8, 8)'\n",
        "  a: Linear(8, 8) >>\n    Liner(8, 8)\n",
        "  a: |\n    Linear(8, 8) >>\n    Liner(8, 8)\n",
        "  a: >-\n    Linear(8,\n    8) >> Liner(8, 8)\n",
        '  a: "Linear\\x288,\\t8) >> \\u004ciner(8, 8)"\n',
        "  a: \"Linear(8, \\\n    8) >> Liner(8, 8)\"\n",
        "  a: 'Conv1d(8, 8, 3, padding_mode=''zeros'') >> Liner(8, 8)'\n",
        '  a: {through: "Linear(8, 8) >> Liner(8, 8)"}\n',
    ],
    "toml": [
        'flow.a = "Linear(8, 8) >> Liner(8, 8)"\n',
        "flow.a = 'Linear(8, 8) >> Liner(8, 8)'\n",
        'flow . "a" . through = "Linear(8, 8) >> Liner(8, 8)"\n',
        'flow = {a = {through = "Linear(8, 8) >> Liner(8, 8)"}}\n',
        '[flow]\na = """Linear(8, 8) >> Liner(8, 8)"""\n',
        '[flow]\na = """\nLinear(8, 8) >>\n   Liner(8, 8)\n"""\n',
        "[flow]\na = '''\nLinear(8,\n  8) >> Liner(8, 8)'''\n",
        '[flow]\na = """Linear(8, 8) >> \\\n     Liner(8, 8)"""\n',
        '[flow]\na = "Linear\\u00288,\\t8) >> \\u004ciner(8, 8)"\n',
        "[flow]\na = \"\"\"Conv1d(8, 8, 3, padding_mode='zeros') >> Liner(8, 8)\"\"\"\n",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in WRITTEN.items() for text in texts])
def test_the_module_is_marked(kind, text, tmp_path):
    file = tmp_path / f"graph.{kind}"
    file.write_text(HEAD[kind] + text, encoding="utf-8")
    (reported,) = flowconf.check(file)
    assert reported.code == "FC0132"
    line = file.read_text(encoding="utf-8").split("\n")[reported.place.line - 1]
    marked = line[reported.place.column - 1 :][: reported.place.length]
    assert marked in ("Liner", "\\u004ciner")


@pytest.mark.parametrize("text", ["[flwo]\n", "[ flwo ]\n", "[[flwo]]\n", 'flwo.a = "GELU"\n', "flwo = {a = 'GELU'}\n"])
def test_a_name_between_brackets_is_marked_without_them(text, tmp_path):
    file = tmp_path / "graph.toml"
    file.write_text(f'inputs.x = ["B", 8]\nflow.a = "GELU"\n{text}', encoding="utf-8")
    (reported,) = flowconf.check(file)
    assert (reported.place.line, reported.place.column, reported.place.length) == (3, text.index("flwo") + 1, 4)


@pytest.mark.parametrize(
    ("written", "whole"),
    [
        ("Linear(8, 8)", "Linear(8, 8)"),
        ("Linear(8, 8) >> ReLU", "Linear(8, 8) >> ReLU"),
        ("{through = Linear(8, 8), frozen = true}", "Linear(8, 8)"),
        ("Sequential(Linear(8, 8), ReLU) # two", "Sequential(Linear(8, 8), ReLU)"),
    ],
)
def test_a_call_without_quotes_is_reported_whole(written, whole, tmp_path):
    file = tmp_path / "graph.toml"
    file.write_text(f'inputs.x = ["B", 8]\nflow.a = {written}\n', encoding="utf-8")
    (reported,) = flowconf.check(file)
    assert reported.help == f'quote a string: write `"{whole}"`'
    assert reported.place.length == len(whole)
