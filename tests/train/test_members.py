"""Members that share and follow parameters, in training: equal to loops written by hand, resumed, and in a team."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flowconf
from flowconf.train.data.builtin import synthetic
from flowconf.train.data.sampling import epoch_order
from tests.train.conftest import TINY, assert_same, go_on, killed, same, weights
from tests.train.teams import assert_alike, team
from tests.train.test_teams import SLOW

TIED = (
    TINY.replace("    drop: Dropout(0.1)\n", "    square: Linear(16, 16)\n    act: Tanh\n    again: AGAIN\n")
    .replace("AGAIN", "{through: 'Linear(16, 16)', tie: {weight: square.weight}}")
    .replace("epochs: 2, ", "epochs: 2, evaluate_every: 5, checkpoint_every: 3, log_every: 4, ema: 0.9, ")
)


def batches(epochs=2):
    """The batches of the tiny config, in the order in which a run takes them."""
    tensors = synthetic(shape=[8], classes=4, rows=320, seed=0).train.tensors
    for epoch in range(epochs):
        for rows in epoch_order(len(tensors["image"]), 0, epoch).split(32):
            yield tensors["image"][rows], tensors["label"][rows]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(8, 16)
        self.square = nn.Linear(16, 16)
        self.again = nn.Linear(16, 16)
        self.logits = nn.Linear(16, 4)
        self.again.weight = self.square.weight

    def forward(self, image):
        return self.logits(self.again(self.square(self.stem(image).relu()).tanh()))


def test_tied_parameters_are_trained_as_in_a_loop_written_by_hand(folder):
    run = folder.train(text=TIED)
    torch.manual_seed(0)
    model = Tied()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    for image, label in batches():
        optimizer.zero_grad()
        F.cross_entropy(model(image), label).backward()
        optimizer.step()
    expected = model.state_dict()
    assert expected.pop("again.weight") is not None
    assert same(weights(run), expected)


def test_tied_parameters_after_sigkill_and_resume(folder):
    whole = folder.train(text=TIED)
    killed(lambda: folder.train(text=TIED), 8)
    assert_same(go_on(folder), whole)


@pytest.mark.parametrize("strategy", ["fsdp", pytest.param("ddp", marks=SLOW)])
def test_tied_parameters_in_two_processes(folder, strategy):
    one = folder.train(text=TIED)
    assert_alike(one, team(folder, TIED, f"trainer.strategy={strategy}"))


def test_a_phase_that_freezes_one_of_two_names_is_refused(folder):
    text = TIED + "phases: {warm: {until: {step: 4}, freeze: [square]}}\n"
    (found,) = flowconf.check(folder.write(text))
    assert found.code == "FC0209"
    assert found.message == (
        "`square.weight` is frozen in phase `warm`, but `again.weight`, the same parameter, is not"
    )
    assert flowconf.check(folder.write(text.replace("freeze: [square]", "freeze: [square, again]"))) == []


def test_a_group_takes_a_tied_parameter_by_either_name(folder):
    torch.manual_seed(0)
    initial = Tied().square.weight
    for name in ("square", "again"):
        run = folder.train(f"+optimizer.groups.{name}.lr=0.0", "trainer.ema=null", text=TIED)
        assert torch.equal(weights(run)["square.weight"], initial)


# members that follow others

ENCODER = """
inputs: {x: [B, 8]}
flow:
  wide: Linear(8, 16)
  norm: BatchNorm1d(16)
  act: ReLU
  narrow: Linear(16, 8)
"""
BYOL = """
model:
  inputs: {image: [B, 8]}
  flow:
    one: Dropout(0.2)
    student: {graph: encoder}
    guess: Linear(8, 8)
    two: {from: image, through: Dropout(0.2)}
    teacher: {graph: encoder, follows: {path: student, decay: 0.9}}
  outputs: {guess: guess, teacher: teacher}
data: {name: synthetic, shape: [8], classes: 4, rows: 320, batch_size: 32}
loss:
  similar: {fn: mse, input: guess, target: teacher}
optimizer: {name: adamw, lr: 0.01}
trainer: {epochs: 2, best: val/loss, devices: cpu, evaluate_every: 5, checkpoint_every: 3, log_every: 4}
"""
RISING = BYOL.replace("decay: 0.9", "decay: {cosine: {from: 0.9, to: 1}}")


@pytest.fixture
def byol(folder):
    folder.write(ENCODER, "graph/encoder.yaml")
    return folder


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide, self.norm, self.narrow = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 8)

    def forward(self, x):
        return self.narrow(self.norm(self.wide(x)).relu())


def byol_by_hand(evaluates=False, decay=lambda progress: 0.9):
    """BYOL as it is usually written: the teacher starts as a copy, and moves after each step of the optimizer."""
    torch.manual_seed(0)
    student, guess, teacher = Encoder(), nn.Linear(8, 8), Encoder()
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    teacher.train(not evaluates)
    optimizer = torch.optim.AdamW([*student.parameters(), *guess.parameters()], lr=0.01, fused=True)
    for step, (image, _) in enumerate(batches()):
        guessed = guess(student(F.dropout(image, 0.2)))
        wanted = teacher(F.dropout(image, 0.2))
        optimizer.zero_grad()
        F.mse_loss(guessed, wanted).backward()
        optimizer.step()
        with torch.no_grad():
            for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
                mine.lerp_(theirs, 1 - decay(step / 16))
            if evaluates:
                for mine, theirs in zip(teacher.buffers(), student.buffers(), strict=True):
                    mine.copy_(theirs)
    parts = {"student": student, "guess": guess, "teacher": teacher}
    return {f"{path}.{name}": tensor for path, part in parts.items() for name, tensor in part.state_dict().items()}


def test_a_moving_teacher_as_in_a_loop_written_by_hand(byol):
    assert same(weights(byol.train(text=BYOL)), byol_by_hand())


def test_the_buffers_of_a_teacher_in_evaluation_mode_are_those_of_the_student(byol):
    text = BYOL.replace("teacher: {graph: encoder,", "teacher: {graph: encoder, frozen: true,")
    assert same(weights(byol.train(text=text)), byol_by_hand(evaluates=True))


def test_a_moving_teacher_after_sigkill_and_resume(byol):
    whole = byol.train(text=BYOL)
    assert same(weights(whole), byol_by_hand())
    killed(lambda: byol.train(text=BYOL), 8)
    assert_same(go_on(byol), whole)


def test_a_decay_that_rises_by_a_cosine_also_after_a_resume(byol):
    """That of BYOL: from its first value to 1, by steps of the optimizer."""
    whole = byol.train(text=RISING)

    def rising(progress):
        return 0.9 + (1 - 0.9) * (0.5 - 0.5 * math.cos(math.pi * progress))

    assert same(weights(whole), byol_by_hand(decay=rising))
    logged = {line["step"]: line["decay/teacher"] for line in whole.log if "decay/teacher" in line}
    assert logged[8] == rising(7 / 16)
    killed(lambda: byol.train(text=RISING), 8)
    assert_same(go_on(byol), whole)


PLAIN_BYOL = BYOL.replace("Dropout(0.2)", "Identity")


@pytest.mark.parametrize("strategy", ["fsdp", pytest.param("ddp", marks=SLOW)])
def test_a_moving_teacher_in_two_processes(byol, strategy):
    byol.write(ENCODER.replace("BatchNorm1d", "LayerNorm"), "graph/encoder.yaml")
    one = byol.train(text=PLAIN_BYOL)
    assert_alike(one, team(byol, PLAIN_BYOL, f"trainer.strategy={strategy}"))


def test_a_teacher_starts_like_the_loaded_student_and_keeps_what_it_loads_itself(byol):
    first = byol.train("trainer.steps=4", text=BYOL)
    start = weights(first, "best")
    file = (first.folder / "checkpoints/best.safetensors").relative_to(byol.path)
    text = BYOL.replace(
        "student: {graph: encoder}", f"student: {{graph: encoder, checkpoint: {{path: {file}, at: student}}}}"
    )
    graph = flowconf.build(flowconf.load(byol.write(text, "second.yaml")).model)
    assert torch.equal(graph.teacher.wide.weight, start["student.wide.weight"])
    assert torch.equal(graph.teacher.norm.running_mean, start["student.norm.running_mean"])
    text = text.replace(
        "teacher: {graph: encoder,", f"teacher: {{graph: encoder, checkpoint: {{path: {file}, at: teacher}},"
    )
    graph = flowconf.build(flowconf.load(byol.write(text, "third.yaml")).model)
    assert torch.equal(graph.teacher.wide.weight, start["teacher.wide.weight"])
    assert not torch.equal(start["teacher.wide.weight"], start["student.wide.weight"])


def test_a_phase_that_thaws_a_teacher_is_refused(byol):
    text = BYOL + "phases: {warm: {until: {step: 4}, thaw: [teacher.wide]}}\n"
    (found,) = flowconf.check(byol.write(text))
    assert (found.code, found.path) == ("FC0209", "phases.warm.thaw")
    assert "is thawed in phase `warm`, but follows `student`" in found.message


def test_a_teacher_is_shown_copied_and_in_no_group(byol):
    graph = flowconf.build(flowconf.load(byol.write(BYOL)).model)
    assert "follows student, decay 0.9" in graph.dot()
    rising = flowconf.build(flowconf.load(byol.write(RISING)).model)
    assert "follows student, decay 0.9 to 1" in rising.dot()
    assert {row.path: row.trainable for row in graph.summary()}["teacher"] == 0
    twin = copy.deepcopy(graph)
    assert not any(parameter.requires_grad for parameter in twin.teacher.parameters())
    assert twin.teacher.norm.training


@pytest.mark.parametrize("text", [BYOL, RISING], ids=["constant", "at the start"])
def test_an_ejected_teacher_follows(byol, text):
    from flowconf.graph.exchange.eject import ejected

    graph = flowconf.build(flowconf.load(byol.write(text)).model)
    space = {"__name__": "alone"}
    exec(compile(ejected(graph), "alone.py", "exec"), space)
    alone = space["Graph"]()
    alone.load_state_dict(graph.state_dict())
    assert not any(parameter.requires_grad for parameter in alone.teacher.parameters())
    with torch.no_grad():
        alone.student.wide.weight.add_(1)
    expected = alone.teacher.wide.weight.lerp(alone.student.wide.weight, 1 - 0.9)
    alone.follow()
    assert torch.equal(alone.teacher.wide.weight, expected)


# adapters

ADAPTED = """
model:
  inputs: {image: [B, 8]}
  flow:
    body: {graph: encoder, adapt: {"**.wide": {name: lora, rank: 2}, narrow: {name: lora, rank: 3}}}
    logits: Linear(8, 4)
""" + TIED[TIED.index("data:") :]


@pytest.fixture
def encoder(folder):
    folder.write(ENCODER.replace("BatchNorm1d", "LayerNorm"), "graph/encoder.yaml")
    return folder


def test_adapters_are_trained_and_resumed_after_sigkill(encoder):
    whole = encoder.train(text=ADAPTED)
    torch.manual_seed(0)
    start = flowconf.build(flowconf.load(encoder.write(ADAPTED)).model).state_dict()
    moved = {name for name, tensor in weights(whole).items() if not torch.equal(tensor, start[name])}
    assert moved == {name for name in start if ".lora." in name or name.startswith("logits.")}
    killed(lambda: encoder.train(text=ADAPTED), 8)
    assert_same(go_on(encoder), whole)


@pytest.mark.parametrize("strategy", ["fsdp", pytest.param("ddp", marks=SLOW)])
def test_adapters_in_two_processes(encoder, strategy):
    one = encoder.train(text=ADAPTED)
    assert_alike(one, team(encoder, ADAPTED, f"trainer.strategy={strategy}"))


def test_a_group_and_a_phase_select_adapters(encoder):
    text = ADAPTED.replace("lr: 0.01}", 'lr: 0.01, groups: {"body.**.lora": {lr: 0.1}}}')
    text += 'phases: {warm: {until: {step: 4}, freeze: ["body.**.lora"]}}\n'
    file = encoder.write(text)
    assert [one for one in flowconf.check(file) if one.severity == "error"] == []
    plain, own = weights(encoder.train(text=ADAPTED)), weights(encoder.train(text=text))
    assert not torch.equal(plain["body.wide.lora.weight.up"], own["body.wide.lora.weight.up"])


def test_a_base_is_loaded_below_its_adapters(encoder):
    base = encoder.train("~model.flow.body.adapt", "trainer.steps=4", text=ADAPTED)
    file = (base.folder / "checkpoints/best.safetensors").relative_to(encoder.path)
    source = "checkpoint: {path: " + str(file) + ", at: body}, adapt"
    config = flowconf.load(encoder.write(ADAPTED.replace("adapt", source), "tuned.yaml"))
    graph = flowconf.build(config.model)
    assert torch.equal(graph.state_dict()["body.wide.weight"], weights(base, "best")["body.wide.weight"])


def test_a_loss_on_values_of_another_shape_in_each_copy_is_refused(folder):
    flow = "{flow: {up: 'Linear(8, 8 * (i + 1))', down: 'Linear(8 * (i + 1), 8)'}}"
    deep = f"    deep: {{through: {flow}, repeat: {{times: 2, index: i}}}}\n"
    text = TIED.replace("    stem: ", deep + "    stem: ")
    (found,) = flowconf.check(folder.write(text.replace("input: logits,", "input: deep.up,", 1)))
    assert (found.code, found.path) == ("FC0402", "loss.label.input")
    assert found.advice == "write one of them: `deep.0.up`"
