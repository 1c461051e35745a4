"""Texts in the tokens of a tokenizer file: packed windows, and a padded row for each text."""

from __future__ import annotations

import json
import sys

import pytest
import torch

import flowconf
from flowconf.cli.main import main
from flowconf.report import ConfigError, MachineError
from flowconf.train.data.declarations import DataSet
from flowconf.train.data.tokens import tokens

WORDS = ["<unk>", "</s>", "the", "cat", "dog", "sleeps", "runs", "and", "a"]
TEXTS = ["the cat sleeps", "the dog runs and a cat runs", "a dog sleeps", "the cat and the dog", "a cat runs"] * 4
TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
        {"id": 1, "content": "</s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
    ],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {word: number for number, word in enumerate(WORDS)}, "unk_token": "<unk>"},
}  # fmt: skip
CONFIG = """
model:
  inputs: {tokens: {shape: [B, 8], dtype: int64}, mask: {shape: [B, 8], dtype: bool}}
  flow:
    seen: {through: "Embedding(9, 4) >> Flatten()", from: tokens}
    chosen: Linear(32, 2)
data:
  name: tokens
  train: texts.jsonl
  tokenizer: tokenizer.json
  length: 8
  form: padded
  fields:
    about: {type: category}
  validation: 0.2
  batch_size: 4
loss:
  kind: {fn: cross_entropy, input: chosen, target: about}
trainer: {epochs: 1, devices: cpu}
"""


@pytest.fixture
def texts(folder):
    folder.write(json.dumps(TOKENIZER), "tokenizer.json")
    folder.write("\n".join(TEXTS) + "\n\n", "texts.txt")
    rows = [{"text": text, "about": "cat" if "cat" in text else "dog"} for text in TEXTS]
    folder.write("".join(json.dumps(row) + "\n" for row in rows), "texts.jsonl")
    return folder


@pytest.fixture
def library(texts):
    pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    return texts


def ids(text):
    return [WORDS.index(word) for word in text.split()]


def test_packed(library):
    arguments = {"train": "texts.txt", "tokenizer": "tokenizer.json", "length": 6, "end": "</s>", "validation": 0.2}
    splits = tokens(**arguments)
    stream = splits.train.streams[0].tolist()
    batch = splits.train.batch(torch.arange(len(splits.train)), torch.Generator())
    assert batch["tokens"].flatten().tolist() == stream[: batch["tokens"].numel()]
    assert torch.equal(batch["tokens"][:, 1:], batch["target"][:, :-1])
    assert stream.count(1) == 16  # one after each text
    assert DataSet("tokens", arguments).declared() == dict.fromkeys(("tokens", "target"), ((6,), torch.int64, 9))
    assert {name: field[:2] for name, field in DataSet("tokens", arguments).declared().items()} == splits.train.fields
    whole = tokens(train="texts.txt", tokenizer="tokenizer.json", length=6, end="</s>").train.streams[0].tolist()
    assert whole == [one for text in TEXTS for one in [*ids(text), 1]]


def test_padded_with_fields_of_the_table(library):
    arguments = {
        "train": "texts.jsonl", "tokenizer": "tokenizer.json", "length": 8, "form": "padded", "end": "</s>",
        "fields": {"about": {"type": "category"}},
    }  # fmt: skip
    splits = tokens(**arguments)
    batch = splits.train.batch(torch.arange(20), torch.Generator())
    for row, text in enumerate(TEXTS):
        assert batch["tokens"][row][batch["mask"][row]].tolist() == [*ids(text), 1]
        assert not batch["tokens"][row][~batch["mask"][row]].any()
    assert batch["about"].tolist() == [0 if "cat" in text else 1 for text in TEXTS]
    assert {name: field[:2] for name, field in DataSet("tokens", arguments).declared().items()} == splits.train.fields
    with pytest.raises(ConfigError, match=r"the text in row 1 of `texts\.jsonl` has 8 tokens, more than 6") as error:
        tokens(**{**arguments, "length": 6})
    assert error.value.diagnostics[0].place.line == 2
    cut = tokens(**{**arguments, "length": 6, "truncate": True}).train.tensors["tokens"]
    assert cut[1].tolist() == [*ids(TEXTS[1])[:5], 1]


def test_a_run(library, capsys):
    run = library.train(text=CONFIG)
    assert json.loads((run.folder / "data.json").read_text()) == {"about": {"categories": ["cat", "dog"]}}
    assert main(["eval", str(run.folder)]) == 0
    batches = flowconf.data("tiny.yaml").train
    assert next(iter(batches))["tokens"].shape == (4, 8)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"end": "</S>"}, "has no token `</S>`"),
        ({"tokenizer": "texts.txt"}, "is not a tokenizer file"),
        ({"length": 500}, "a window needs 500 \\+ 1"),
        ({"fields": {"a": "a"}}, "`fields` does not apply"),
        ({"train": "none.txt"}, "there is no file"),
        ({"train": "empty.txt"}, "has no lines of text"),
        ({"train": "texts.jsonl", "column": "txt"}, "has no column `txt`"),
        ({"train": "odd.jsonl"}, "`text` must be text, got `3` in row 1"),
        ({"validation": 1.5}, "shares must"),
    ],
)
def test_what_cannot_be_read(library, given, words):
    library.write("\n", "empty.txt")
    library.write('{"text": "a"}\n{"text": 3}\n', "odd.jsonl")
    with pytest.raises(ConfigError, match=words):
        tokens(**{"train": "texts.txt", "tokenizer": "tokenizer.json", "length": 6, **given})


def test_without_the_library(texts, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    texts.write(CONFIG)
    assert main(["train", "tiny.yaml"]) == 3
    said = capsys.readouterr().err
    assert "requires the package `tokenizers`" in said
    assert "pip install 'flowconf[text]'" in said
    with pytest.raises(MachineError):
        tokens(train="texts.txt", tokenizer="tokenizer.json", length=6)


def test_a_mistake_in_a_field_is_marked_there(texts, capsys):
    assert "tiny.yaml:14:19" in texts.refusal(
        CONFIG.replace("about: {type: category}", "about: {type: categry}"), capsys
    )
