"""Turns: adversarial training equals hand-written PyTorch, to the bit, also after a kill and with two processes."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

import flowconf
from flowconf.api import load
from flowconf.cli.main import main
from flowconf.train.loop import one_step
from flowconf.train.prepare import prepare
from tests.train.conftest import assert_same, go_on, killed, train
from tests.train.teams import TOLERANCE, dying, go_on_together, team, together
from tests.train.test_teams import DEEP, with_keys

WGAN = """
model:
  inputs: {image: [B, 8]}
  flow:
    noise: Noise(4)
    fake: {label: generator, graph: {inputs: {x: [B, 4]}, flow: {one: "Linear(4, 16) >> ReLU", two: "Linear(16, 8)"}}}
    of_fake: {label: critic, graph: {inputs: {x: [B, 8]}, flow: {one: "Linear(8, 16) >> Tanh", two: "Linear(16, 1)"}}}
    of_real: {from: image, reuse: critic}
    mixed: {from: image, through: Mix, using: {other: generator}}
    point: Differentiable
    of_point: {from: point, reuse: critic}
data: {name: synthetic, shape: [8], classes: 4, rows: 800, batch_size: 32}
loss:
  real: {fn: value, input: of_real, weight: -1}
  fake: {fn: value, input: critic}
  penalty: {fn: gradient_penalty, input: [of_point, point], weight: 10}
  fool: {fn: value, input: critic, weight: -1}
turns:
  critic: {loss: [real, fake, penalty], updates: critic, steps: 5}
  generator: {loss: fool, updates: generator}
optimizer:
  name: adam
  lr: 0.001
  betas: [0.0, 0.9]
  groups:
    generator: {name: adam, lr: 0.002, betas: [0.5, 0.9], schedule: {name: linear, final: 0.5}}
trainer: {steps: 60, evaluate_every: 20, checkpoint_every: 7, log_every: 6, devices: cpu}
"""


def by_hand(folder):
    """The weights of a WGAN with gradient penalty in plain PyTorch, on the batches and random numbers of a run."""
    job = prepare(load(folder.write(WGAN)), folder.path)
    with torch.random.fork_rng():
        generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8))
        critic = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    for model, name in ((generator, "generator"), (critic, "critic")):
        own = [p for path, p in job.graph.named_parameters() if path.startswith(f"{name}.")]
        for mine, theirs in zip(model.parameters(), own, strict=True):
            mine.data.copy_(theirs)
    of_critic = torch.optim.Adam(critic.parameters(), lr=0.001, betas=(0.0, 0.9), fused=True)
    of_generator = torch.optim.Adam(generator.parameters(), lr=0.002, betas=(0.5, 0.9), fused=True)

    def batches():
        while True:
            yield from (job.train.batch(rows, 0)["image"] for rows in job.sampler.rest_of_epoch())

    for step, real in enumerate(itertools.islice(batches(), 60)):
        noise = torch.randn(len(real), 4)
        if step % 6 < 5:
            with torch.no_grad():
                fake = generator(noise)
            of_fake, of_real = critic(fake), critic(real)
            share = torch.rand(len(real), 1)
            point = (share * real + (1 - share) * fake).requires_grad_()
            score = critic(point)
            (gradient,) = torch.autograd.grad(score, point, torch.ones_like(score), create_graph=True)
            penalty = ((gradient.norm(dim=1) - 1) ** 2).mean()
            loss = -of_real.mean() + of_fake.mean() + 10 * penalty
            of_critic.zero_grad()
            loss.backward()
            of_critic.step()
        else:
            of_generator.param_groups[0]["lr"] = 0.002 * (1.0 + (0.5 - 1.0) * (step / 60))
            loss = -critic(generator(noise)).mean()
            of_generator.zero_grad()
            loss.backward()
            of_generator.step()
    return [*generator.parameters(), *critic.parameters()]


def test_it_equals_hand_written_pytorch(folder):
    expected = by_hand(folder)
    graph = flowconf.load_run(folder.train(text=WGAN).folder, last=True)
    found = [*graph.subgraph("generator").parameters(), *graph.subgraph("critic").parameters()]
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("step", [22, 37])
def test_it_goes_on_after_a_kill_with_the_same_bits(folder, step):
    whole = folder.train(text=WGAN)
    killed(lambda: folder.train(text=WGAN, name="again.yaml"), step)
    assert_same(go_on(folder, folder.runs("again")[0]), whole)


def test_two_processes_equal_one(folder):
    text = (
        WGAN.replace("    noise: Noise(4)", "    noise: Linear(8, 4)")
        .replace(
            "    mixed: {from: image, through: Mix, using: {other: generator}}\n    point: Differentiable",
            "    point: {from: image, through: Differentiable}",
        )
        .replace("steps: 60", "steps: 24")
    )
    one = dict(flowconf.load_run(folder.train(text=text).folder, last=True).named_parameters())
    two = dict(flowconf.load_run(team(folder, text, "trainer.shares=[3, 1]").folder, last=True).named_parameters())
    torch.testing.assert_close(two, one, **TOLERANCE)


WITHOUT_PENALTY = (
    WGAN.replace("    noise: Noise(4)", "    noise: Linear(8, 4)")
    .replace("    mixed: {from: image, through: Mix, using: {other: generator}}\n    point: Differentiable\n", "")
    .replace("    of_point: {from: point, reuse: critic}\n", "")
    .replace("  penalty: {fn: gradient_penalty, input: [of_point, point], weight: 10}\n", "")
    .replace(", penalty]", "]")
    .replace("steps: 60", "steps: 24")
)
OVERLAPPING = (
    DEEP
    + "turns: {low: {loss: label}, high: {loss: side, updates: [side, body], steps: 2}, both: {loss: [label, side]}}\n"
)


@pytest.mark.parametrize("text", [WITHOUT_PENALTY, OVERLAPPING, with_keys(OVERLAPPING, accumulate=2)])
def test_sharded_weights_equal_whole_ones(folder, text):
    words = ("+trainer.strategy=fsdp", "trainer.shares=[3, 1]")
    one = dict(flowconf.load_run(folder.train(text=text).folder, last=True).named_parameters())
    two = dict(flowconf.load_run(team(folder, text, *words).folder, last=True).named_parameters())
    torch.testing.assert_close(two, one, **TOLERANCE)


def test_sharded_weights_go_on_after_a_kill(folder):
    whole = team(folder, WITHOUT_PENALTY, "+trainer.strategy=fsdp")
    config = load(folder.write(WITHOUT_PENALTY), ["trainer.devices=2", "+trainer.strategy=fsdp"])

    def dies(rank):
        dying(16)
        train(config)

    together(dies)
    run = folder.runs()[-1]
    go_on_together(run)
    assert_same(folder.run(run), whole)


def test_each_turn_moves_only_its_parameters_and_has_its_own_curves(folder):
    run = folder.train(text=WGAN.replace("log_every: 6", "log_every: 1"))
    said = folder.said.getvalue()
    assert "turns      critic: 5 steps of real, fake, penalty for `critic`\n" in said
    assert "           generator: 1 step of fool for `generator`\n" in said
    lines = [line for line in run.log if "train/loss" in line]
    critic = {"train/loss/real", "train/loss/fake", "train/loss/penalty", "train/turn/critic"}
    for line in lines:
        losses = {key for key in line if key.startswith("train/")} - {"train/loss"}
        assert losses == (critic if (line["step"] - 1) % 6 < 5 else {"train/loss/fool", "train/turn/generator"})
        turn = next(value for key, value in line.items() if key.startswith("train/turn/"))
        assert turn == pytest.approx(line["train/loss"])


def test_the_losses_of_several_steps_are_means_over_the_steps_of_their_turns(folder):
    one = [line for line in folder.train(text=WGAN.replace("log_every: 6", "log_every: 1")).log if "train/loss" in line]
    six = [line for line in folder.train(text=WGAN).log if "train/loss" in line]
    for number, line in enumerate(six):
        steps = one[6 * number : 6 * number + 6]
        for key in ("train/loss/real", "train/loss/fool", "train/turn/critic", "train/turn/generator"):
            values = [step[key] for step in steps if key in step]
            assert line[key] == pytest.approx(sum(values) / len(values), abs=1e-5)


def test_the_loss_of_training_adds_up_the_terms_of_all_turns_as_an_evaluation_does(folder):
    ramp = WGAN.replace(
        "fool: {fn: value, input: critic, weight: -1}", "fool: {fn: value, input: critic, weight: RAMP}"
    )
    ramp = (
        ramp.replace("RAMP", "{linear: {from: -1, to: -2}}")
        .replace("log_every: 6", "log_every: 10")
        .replace("steps: 60", "steps: 20")
    )
    run = folder.train(text=ramp)
    one = folder.train(text=ramp.replace("log_every: 10", "log_every: 1"))
    steps = {line["step"]: line for line in one.log if "train/loss" in line}
    for line in run.log:
        if "train/loss" in line:
            turns = [[], []]
            for step in range(line["step"] - 9, line["step"] + 1):
                turns[(step - 1) % 6 == 5].append(steps[step]["train/loss"])
            assert line["train/loss"] == pytest.approx(sum(sum(turn) / len(turn) for turn in turns), abs=1e-5)


def test_a_term_of_two_turns_counts_once_in_the_loss_of_training(folder):
    run = folder.train("trainer.epochs=1", text=OVERLAPPING)
    *_, line = [line for line in run.log if "train/loss" in line]
    terms = {name: line[f"train/loss/{name}"] for name in ("label", "side")}
    weights = {name: load(folder.write(OVERLAPPING)).training.loss[name].weight for name in terms}
    assert line["train/loss"] == pytest.approx(sum(weights[name] * terms[name] for name in terms), rel=1e-5)


def test_what_no_turn_updates_does_not_move(folder, capsys):
    text = (
        WGAN.replace("    noise: Noise(4)", "    noise: Linear(8, 4)")
        .replace("adam", "sgd")
        .replace(", betas: [0.5, 0.9]", "")
    )
    text = text.replace("  betas: [0.0, 0.9]\n", "")
    before = job_of(folder, text).graph.noise.weight.clone()
    assert torch.equal(flowconf.load_run(folder.train(text=text).folder, last=True).noise.weight, before)
    assert main(["check", folder.write(text)]) == 0
    assert "warning[FC0408]: `noise` is not trained by any term of the loss" in capsys.readouterr().out


def job_of(folder, text):
    return prepare(load(folder.write(text)), folder.path)


def test_only_what_a_turn_needs_is_computed_and_has_gradients(folder):
    job = job_of(folder, WGAN)
    critic, generator = job.round[0], job.round[-1]
    assert [active.turn for active in job.round] == ["critic"] * 5 + ["generator"]
    calls = []
    job.graph.module_at("critic").register_forward_hook(lambda *_: calls.append(1))
    for step, expected in ((0, 3), (5, 1)):
        job.take_turn(step)
        one_step(job, torch.arange(8), step)
        assert len(calls) == expected
        calls.clear()
    job.take_turn(0)
    assert {name.split(".")[0] for name, p in job.graph.named_parameters() if p.requires_grad} == {"critic"}
    assert job.active is critic
    job.take_turn(5)
    assert {name.split(".")[0] for name, p in job.graph.named_parameters() if p.requires_grad} == {"generator"}
    assert [len(one.param_groups[0]["params"]) for one in generator.optimizers] == [4]


def test_a_phase_may_leave_a_turn_out(folder):
    text = WGAN + "phases: {alone: {until: {step: 12}, loss: {fool: 0}}}\n"
    job = job_of(folder, text)
    job.enter("alone")
    assert [active.turn for active in job.round] == ["critic"] * 5
    run = folder.train(text=text.replace("log_every: 6", "log_every: 1"))
    turns = ["fool" if "train/loss/fool" in line else "real" for line in run.log if "train/loss" in line]
    assert turns == ["real"] * 12 + [("fool" if step % 6 == 5 else "real") for step in range(12, 60)]


def test_a_phase_that_leaves_nothing_to_train_is_refused(folder):
    text = WGAN + "phases: {alone: {until: {step: 12}, freeze: [critic], loss: {fool: 0}}}\n"
    with pytest.raises(flowconf.ConfigError, match="nothing to train"):
        job_of(folder, text)


def test_alternating_minimisation_with_lbfgs_and_one_shared_optimizer(folder):
    text = WGAN.replace("      updates: critic", "").replace(
        "generator: {name: adam, lr: 0.002, betas: [0.5, 0.9], schedule: {name: linear, final: 0.5}}",
        "generator: {name: lbfgs, lr: 0.1, max_iter: 2}",
    )
    whole = folder.train(text=text)
    killed(lambda: folder.train(text=text, name="again.yaml"), 40)
    assert_same(go_on(folder, folder.runs("again")[0]), whole)


OTHERS = ["trainer.clip=0.5", "trainer.accumulate=2", "trainer.ema=0.9", "trainer.precision=bf16"]


def test_a_plateau_of_the_loss_of_a_turn_goes_on_after_a_kill(folder):
    plateau = "{name: plateau, value: train/turn/generator, factor: 0.5, patience: 1, by: 0.05}"
    text = WGAN.replace("{name: linear, final: 0.5}", plateau)
    whole = folder.train(text=text)
    assert len({line["lr/generator"] for line in whole.log if "lr/generator" in line}) > 1
    killed(lambda: folder.train(text=text, name="again.yaml"), 40)
    assert_same(go_on(folder, folder.runs("again")[0]), whole)


@pytest.mark.parametrize("word", OTHERS)
def test_turns_with_other_settings(folder, word):
    assert folder.train(word, text=WGAN).record["status"] == "finished"


def test_evaluations_compute_penalties_and_change_nothing(folder):
    often, rarely = (
        folder.train(text=WGAN.replace("evaluate_every: 20", f"evaluate_every: {every}")) for every in (5, 60)
    )
    mine, theirs = (dict(flowconf.load_run(run.folder, last=True).named_parameters()) for run in (often, rarely))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert all(line["val/loss/penalty"] >= 0 for line in often.log if "val/loss" in line)


def test_a_penalty_of_a_project(folder, capsys):
    from flowconf.language import registry

    @flowconf.register_loss
    @flowconf.differentiates
    def slope(score, point):
        (gradient,) = torch.autograd.grad(score.sum(), point, create_graph=True)
        return gradient.flatten(1).norm(dim=1) * float(gradient.detach().mean() * 0 + 1)

    try:
        text = WGAN.replace("gradient_penalty", "slope")
        assert main(["check", folder.write(text)]) == 0
        assert "checked when a run has read its data: `loss.penalty`" in capsys.readouterr().err
        assert folder.train(text=text).record["status"] == "finished"
    finally:
        del registry.losses.registered["slope"]


def test_a_point_without_gradient_is_refused(folder, capsys):
    text = WGAN.replace("    point: Differentiable\n", "    point: Identity\n").replace(
        "mixed: {from: image, through: Mix, using: {other: generator}}", "mixed: {from: image, through: Identity}"
    )
    assert main(["check", folder.write(text)]) == 2
    assert "let it pass through `Differentiable`" in capsys.readouterr().out


def test_the_sum_of_turns_is_no_silent_choice_of_the_best_weights(folder):
    said = []
    for words in ([], ["trainer.best=val/loss"], ["trainer.best=last"], ["+data.validation=0"]):
        folder.said.truncate(0)
        folder.train(*words, "trainer.steps=1", text=WITHOUT_PENALTY)
        said.append("`val/loss` selects the best weights, but it adds up terms" in folder.said.getvalue())
    assert said == [True, False, False, False]
