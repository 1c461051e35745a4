"""Text made to hurt: every one ends in data or a diagnostic, and soon."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

import flowconf
from flowconf.report import ConfigError
from flowconf.text.documents import read

SIZE = 1_000_000
SECONDS = 2.0

YAML = {
    "braces": "{" * SIZE,
    "brackets": "[" * SIZE,
    "dashes": "- " * (SIZE // 2),
    "questions": "? " * (SIZE // 2),
    "colons": "a: " * (SIZE // 3),
    "aliases": "a: &a x\nb: [" + "*a," * (SIZE // 3) + "]",
    "anchors": "&a " * (SIZE // 3),
    "tags": "!a " * (SIZE // 3),
    "tag directives": "".join(f"%TAG !{i}! b\n" for i in range(SIZE // 20)),
    "one text": "a" * SIZE,
    "one quote": '"' + "\\u0041" * (SIZE // 6) + '"',
    "quotes": '"' * SIZE,
    "comments": "# x\n" * (SIZE // 4),
    "lines": "\n" * SIZE,
    "list": "- 1\n" * (SIZE // 4),
    "mapping": "".join(f"a{i}: 1\n" for i in range(SIZE // 10)),
    "duplicates": "a: 1\n" * (SIZE // 5),
    "duplicates in one line": "{" + '"a":1,' * (SIZE // 8),
    "cut calls": "a: [" + "L(1, 2), " * (SIZE // 10) + "]",
    "open calls": "a: [" + "L(1, " * (SIZE // 10) + "]",
    "parentheses": "a: [" + "(" * SIZE + "]",
    "indentation": "".join(" " * i + "a:\n" for i in range(1200)),
    "documents": "---\n" * (SIZE // 4),
    "look-alikes": "a:\n" + "- yes\n" * 19_000,
    "merge keys": "x: &x {a: 1}\ny:\n" + "  <<: *x\n" * 5000,
    "merge bomb": "a0: &a0 {x: 1}\n"
    + "".join(f"a{i}: &a{i} {{<<: *a{i - 1}, y{i}: {{<<: *a{i - 1}}}}}\n" for i in range(1, 60)),
}

TOML = {
    "brackets": "a=" + "[" * SIZE,
    "braces": "a=" + "{a=" * (SIZE // 3),
    "dots": "a" + ".a" * (SIZE // 2) + "=1",
    "header": "[a" + ".a" * (SIZE // 2) + "]",
    "headers": "[a]\n" * (SIZE // 4),
    "many headers": "".join(f"[a{i}]\n" for i in range(SIZE // 10)),
    "arrays of tables": "[[a]]\n" * (SIZE // 6),
    "escapes": 'a="' + "\\n" * (SIZE // 2) + '"',
    "lines": 'a="""' + '\n"' * (SIZE // 2) + '"""',
    "open text": 'a="""' + "x" * SIZE,
    "quotes": '"' * SIZE,
    "values": "a=[" + "1," * (SIZE // 2) + "]",
    "keys": "".join(f"a{i}=1\n" for i in range(SIZE // 10)),
    "duplicates": "a=1\n" * (SIZE // 4),
    "digits": "a=" + "9" * SIZE,
}


@pytest.mark.parametrize(
    ("name", "text"),
    [("x.yaml", text) for text in YAML.values()] + [("x.toml", text) for text in TOML.values()],
    ids=[f"yaml {name}" for name in YAML] + [f"toml {name}" for name in TOML],
)
def test_hostile_text_ends_soon(name: str, text: str) -> None:
    start, reported = time.process_time(), ConfigError()
    try:
        read(name, text)
    except ConfigError as error:
        reported = error
    assert len(reported.diagnostics) <= 100
    assert len(str(reported)) < 200_000
    assert time.process_time() - start < SECONDS


@pytest.mark.parametrize("call", [flowconf.plan, flowconf.load, flowconf.build])
def test_a_name_that_no_file_can_have(call: Callable[[str], object]) -> None:
    with pytest.raises(ConfigError, match="a file name cannot contain a NUL character"):
        call("a\0b.yaml")
    assert [found.code for found in flowconf.check("a\0b.yaml")] == ["FC0001"]
