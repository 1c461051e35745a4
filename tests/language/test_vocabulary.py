"""Words of other tools: each one leads to what is meant, and what is advised is a config without an error there."""

from __future__ import annotations

import ast
import re
import shutil
from itertools import product
from pathlib import Path

import pytest

import flowconf
from flowconf.language import registry, signatures
from flowconf.language.advice import foreign_calls, other_tools, vocabulary
from flowconf.language.resolve.module_settings import INITIALIZERS
from flowconf.language.schema import keys_of
from flowconf.language.training import TrainerSection
from flowconf.report import Diagnostic, FlowconfError, Suggestion
from flowconf.train.checks import road

SHIPPED = Path(__file__).parent.parent.parent / "configs" / "digits.yaml"
KINDS = {table.kind: table for table in (*registry.TABLES.values(), INITIALIZERS)}
VALUES: dict[str, str] = {
    "batch_size": "data.{}=32",
    "evaluation_batch_size": "data.{}=32",
    "workers": "data.{}=1",
    "prefetch": "data.{}=2",
    "drop_last": "data.{}=true",
    "folder": "data={{name: images, {}: configs, batch_size: 8}}",
    "train": "data={{name: arrays, {}: configs/digits.yaml, batch_size: 8}}",
    "file": "data={{name: text, {}: configs/digits.yaml, length: 4, batch_size: 8}}",
    "size": "data={{name: images, folder: configs, {}: [8, 8], batch_size: 8}}",
    "length": "data={{name: text, file: configs/digits.yaml, {}: 4, batch_size: 8}}",
    "validation": "data.{}=0.1",
    "test": "data.{}=0.1",
    "name": "optimizer={{{}: adamw, lr: 0.1}}",
    "fn": "loss.label={{{}: cross_entropy, input: logits, target: label}}",
    "input": "loss.label={{fn: cross_entropy, {}: logits, target: label}}",
    "target": "loss.label={{fn: cross_entropy, input: logits, {}: label}}",
    "weight": "loss.label.{}=2.0",
    "args": "loss.label.{}={{label_smoothing: 0.1}}",
    "lr": "optimizer={{name: adamw, {}: 0.1}}",
    "weight_decay": "optimizer.{}=0.1",
    "eps": "optimizer.{}=0.1",
    "groups": "optimizer.{}={{stem: {{lr: 0.1}}}}",
    "warmup": "schedule.{}=3",
    "final": "schedule.{}=0.1 | schedule.name=cosine",
    "at": "schedule.{}=[0.5] | schedule.name=steps",
    "factor": "schedule.{}=0.1 | schedule.name=steps | schedule.at=[0.5]",
    "when": "+phases={{warm: {{{}: {{epoch: 2}}, freeze: stem}}}}",
    "until": "+phases={{warm: {{{}: {{epoch: 2}}, freeze: stem}}}}",
    "freeze": "+phases={{warm: {{until: {{epoch: 2}}, {}: stem}}}}",
    "thaw": "+phases={{warm: {{until: {{epoch: 2}}, {}: stem, freeze: logits}}}}",
    "epochs": "trainer={{{}: 3}}",
    "steps": "trainer={{{}: 3}}",
    "devices": "trainer.{}=2",
    "nodes": "trainer.{}=2",
    "precision": "trainer.{}=bf16",
    "compile": "trainer.{}=true",
    "clip": "trainer.{}=1.0",
    "clip_value": "trainer.{}=1.0",
    "accumulate": "trainer.{}=2",
    "ema": "trainer.{}=0.9",
    "patience": "trainer.{}=3",
    "evaluate_every": "trainer.{}=30",
    "checkpoint_every": "trainer.{}=30",
    "log_every": "trainer.{}=30",
    "best": "trainer.{}=val/loss",
    "find_nan": "trainer.{}=true",
    "progress": "trainer.{}=false",
    "runs": "trainer.{}=out",
}  # fmt: skip
"""A key of a config -> words with that key, as a user writes them."""
SECTIONS = ("model", "data", "loss", "metrics", "trainer", "seed", "defaults")
"""Sections of the shipped config, which are renamed in the file."""
ARGUMENTS = {"units": "Linear", "rate": "Dropout", "axis": "Softmax", "filters": "Conv2d", "use_bias": "Linear"}
COMMON = {
    ("optimizer", "Adam"): "adam", ("optimizer", "torch.optim.AdamW"): "adamw", ("optimizer", "RMSprop"): "rmsprop",
    ("optimizer", "SGD"): "sgd", ("optimizer", "NAdam"): "nadam", ("optimizer", "adamw_torch"): "adamw",
    ("schedule", "CosineAnnealingLR"): "cosine", ("schedule", "LinearLR"): "linear", ("schedule", "StepLR"): "steps",
    ("schedule", "MultiStepLR"): "steps",
    ("schedule", "CosineAnnealingWarmRestarts"): "warm_restarts", ("schedule", "cosine_restarts"): "warm_restarts",
    ("schedule", "OneCycleLR"): "one_cycle", ("schedule", "ReduceLROnPlateau"): "plateau",
    ("optimizer", "torch.optim.LBFGS"): "lbfgs", ("optimizer", "Adamax"): "adamax",
    ("schedule", "ExponentialLR"): "exponential",
    ("schedule", "constant_with_warmup"): "constant", ("schedule", "get_cosine_schedule_with_warmup"): "cosine",
    ("loss", "CrossEntropyLoss"): "cross_entropy", ("loss", "nn.BCEWithLogitsLoss"): "bce_with_logits",
    ("loss", "MSELoss"): "mse", ("loss", "L1Loss"): "l1", ("loss", "SmoothL1Loss"): "smooth_l1",
    ("loss", "sparse_categorical_crossentropy"): "cross_entropy", ("loss", "KLDivLoss"): "kl_div",
    ("loss", "binary_crossentropy"): "bce", ("loss", "F.binary_cross_entropy_with_logits"): "bce_with_logits",
    ("loss", "HuberLoss"): "huber", ("loss", "NLLLoss"): "nll", ("loss", "CosineEmbeddingLoss"): "cosine",
    ("metric", "acc"): "accuracy", ("metric", "accuracy_score"): "accuracy",
    ("metric", "mean_squared_error"): "MeanSquaredError",
    ("metric", "f1_score"): "F1Score", ("metric", "roc_auc_score"): "AUROC", ("metric", "mIoU"): "JaccardIndex",
    ("data set", "ImageFolder"): "images", ("data set", "torchvision.datasets.MNIST"): "idx",
    ("data set", "TensorDataset"): "arrays", ("logger", "WandbLogger"): "wandb", ("logger", "MLFlowLogger"): "mlflow",
}  # fmt: skip


@pytest.fixture
def digits(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    shutil.copy(SHIPPED, tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    return Path("configs/digits.yaml")


def errors(file: Path, words: list[str]) -> list[Diagnostic]:
    try:
        road.begin(file, words).to(road.BEFORE_TORCH)
    except FlowconfError as error:
        return [one for one in error.diagnostics if one.severity == "error"]
    return []


def allowed(kind: str) -> list[str]:
    names = KINDS[kind].names()
    return [*names, *registry.losses.names(), *signatures.public_names("torchmetrics")] if kind == "metric" else names


def words(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(ours, word) for ours, theirs in table.items() for word in theirs.split()]


@pytest.mark.parametrize("kind", vocabulary.NAMES)
def test_names_of_other_tools_lead_to_names_that_exist(kind):
    known = allowed(kind)
    for ours, word in words(vocabulary.NAMES[kind]):
        assert ours in known, ours
        assert word not in known, word
        advice = other_tools.for_name(kind, f"{kind}s", word, known)
        assert isinstance(advice, Suggestion), word
        assert ours in (advice.write, *advice.others), word


@pytest.mark.parametrize(("named", "ours"), COMMON.items(), ids=[f"{kind} {name}" for kind, name in COMMON])
def test_the_usual_names_are_understood(named, ours):
    kind, name = named
    advice = other_tools.for_name(kind, f"{kind}s", name, allowed(kind))
    assert isinstance(advice, Suggestion)
    assert advice.write == ours


@pytest.mark.parametrize("kind", vocabulary.ABSENT)
def test_a_name_without_an_equivalent_is_registered(kind):
    known = allowed(kind)
    for word in vocabulary.ABSENT[kind].split():
        same = [name for name in known if other_tools.bare(kind, name) == word]
        advice = other_tools.for_name(kind, f"{kind}s", word, known)
        if same:  # offered meanwhile, perhaps by a project
            assert isinstance(advice, Suggestion)
            assert advice.write in same
        else:
            assert f"flowconf.register_{kind.replace(' ', '')}" in str(advice)
            assert hasattr(flowconf, f"register_{kind.replace(' ', '')}")


KEYS = [
    pytest.param(ours, word, id=f"{word} {ours}", marks=[] if number == 0 else pytest.mark.slow)
    for ours, theirs in vocabulary.CONFIG.items()
    for number, word in enumerate(theirs.split())
    if ours in VALUES
]


@pytest.mark.parametrize(("ours", "word"), KEYS)
def test_keys_of_other_tools_lead_to_keys_that_hold(ours, word, digits):
    typed, *others = VALUES[ours].format(word).split(" | ")
    (reported,) = (one for one in errors(digits, [typed, *others]) if f"`{word}`" in one.message)
    new = reported.better_word
    assert isinstance(reported.advice, Suggestion), reported.help
    assert new is not None, reported.help
    assert reported.advice.write in (ours, new)
    left = [one for one in errors(digits, [new, *others]) if one.place.word == new]
    assert [one.message for one in left if one.code != "FC0502"] == []  # the graph is not one for these data


@pytest.mark.parametrize("ours", SECTIONS)
def test_sections_of_other_tools_lead_to_sections(ours, digits):
    text = digits.read_text(encoding="utf-8")
    for word in vocabulary.CONFIG[ours].split():
        digits.write_text(re.sub(rf"^{ours}:", f"{word}:", text, flags=re.MULTILINE), encoding="utf-8")
        (reported,) = errors(digits, [])
        assert reported.help == f"write `{ours}`", (word, reported.message, reported.help)


def alternatives(pattern: str) -> list[str]:
    """Some texts that a pattern of a pair matches."""
    plain = pattern.replace(r"(\w+)", "accuracy").replace(r"([1-9]\d*)", "3").replace(r"val(?:id(?:ation)?)?", "val")
    plain = plain.replace("[sz]", "z").replace("[_/]", "_").replace(".*", "spawn").replace("(?:", "(")
    choices = [part.strip("()").split("|") for part in re.findall(r"\([^)]*\)|[^(|)]+(?:\|[^(|)]+)*", plain)]
    return ["".join(parts) for parts in product(*choices)]


PAIRS = [
    pytest.param(key, text, id=f"{key} {text}", marks=[] if number == 0 else pytest.mark.slow)
    for key, patterns in vocabulary.PAIRS.items()
    for pattern in patterns
    for number, text in enumerate(alternatives(pattern))
]


@pytest.mark.parametrize(("key", "text"), PAIRS)
def test_pairs_of_other_tools_lead_to_pairs_that_hold(key, text, digits):
    typed = f"trainer.{key}={text}"
    found = errors(digits, [typed])
    assert len(found) == 1, typed
    new = found[0].better_word
    assert new is not None, (typed, found[0].help)
    assert errors(digits, [new]) == []
    line = f"trainer: {{epochs: 20, {key}: {text}}}"
    digits.write_text(digits.read_text(encoding="utf-8").replace("trainer: {epochs: 20}", line), encoding="utf-8")
    (reported,) = errors(digits, [])
    assert reported.fix is not None, reported.help
    before, after = (
        line[: reported.fix.place.column - 1],
        line[reported.fix.place.column - 1 + reported.fix.place.length :],
    )
    mended = f"{before}{reported.fix.text}{after}"
    digits.write_text(digits.read_text(encoding="utf-8").replace(line, mended), encoding="utf-8")
    assert errors(digits, []) == [], mended


@pytest.mark.parametrize("theirs", vocabulary.CALLS)
def test_calls_of_other_tools_lead_to_calls_that_hold(theirs):
    name, _, rest = theirs.partition("(")
    values = {"activation": '"relu"', "padding": '"same"', "rate": "0.1", "use_bias": "false", "strides": "1"}
    arguments = [one.split("=")[0].strip() for one in rest.removesuffix(")").split(",") if one.strip()]
    given = [f"{one}={values.get(one, '2')}" for one in arguments]
    if name == "ZeroPadding2D":
        given = ["padding=1"]
    for call in {name, f"{name}({', '.join(given)})"} - ({name} if arguments and "=" not in rest else set()):
        written = foreign_calls.translated(ast.parse(call, mode="eval").body, registry.modules.names())
        assert written is not None, call
        document = {"inputs": {"x": ["B", 4, 8, 8]}, "flow": {"a": written}}
        assert [one.message for one in plain_errors(document)] == [], written


def plain_errors(document: dict[str, object]) -> list[Diagnostic]:
    try:
        flowconf.plan(document)
    except FlowconfError as error:
        return list(error.diagnostics)
    return []


def test_a_foreign_call_keeps_its_activation_and_arguments():
    names = registry.modules.names()
    written = {
        'Dense(64, activation="relu")': "Linear(_, 64) >> ReLU",
        "tf.keras.layers.Dense(units=64, use_bias=False)": "Linear(_, 64, bias=False)",
        'Conv2D(32, (3, 3), padding="same", activation="gelu")': "Conv2d(_, 32, (3, 3), padding='same') >> GELU",
        "MaxPooling2D": "MaxPool2d(2)",
        'Activation("tanh")': "Tanh",
        "layers.GlobalAveragePooling2D()": "AdaptiveAvgPool2d(1) >> Flatten",
    }
    for theirs, ours in written.items():
        assert foreign_calls.translated(ast.parse(theirs, mode="eval").body, names) == ours
    assert foreign_calls.translated(ast.parse("Linear(2, 3)", mode="eval").body, names) is None


@pytest.mark.parametrize("ours", vocabulary.ARGUMENTS)
def test_arguments_of_other_tools_are_arguments_of_modules(ours):
    takes = [name for name in registry.modules.names() if ours in registry.modules.class_source(name).init.names]
    assert takes, ours


@pytest.mark.parametrize(("word", "module"), ARGUMENTS.items())
def test_an_argument_of_another_tool_is_named_in_our_words(word, module):
    (reported,) = plain_errors({"inputs": {"x": ["B", 4, 8, 8]}, "flow": {"a": f"{module}({word}=1)"}})
    ours = [ours for ours, theirs in vocabulary.ARGUMENTS.items() if word in theirs.split()]
    assert any(f"`{one}`" in str(reported.help) for one in ours), reported.help


def test_keys_that_are_not_needed_are_no_keys():
    assert not set(vocabulary.NOT_NEEDED) & set(keys_of(TrainerSection))
    assert not set(vocabulary.NO_STEP_KEYS) & set(flowconf.language.schema.STEP_KEYS)
