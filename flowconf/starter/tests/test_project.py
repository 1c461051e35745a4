"""Run with `pytest` in the folder of the project."""

import flowconf
import torch

from project_name.blocks import Spectrum

CONFIG = "configs/baseline.yaml"


def test_the_spectrum_of_a_wave_has_its_peak_at_its_frequency():
    wave = torch.sin(2 * torch.pi * 8 * torch.arange(64) / 64)
    assert Spectrum()(wave[None]).argmax() == 8


def test_the_config_has_no_errors_and_no_warnings():
    assert flowconf.check(CONFIG) == []


def test_a_short_training_is_better_than_chance(tmp_path):
    run = flowconf.train(CONFIG, ["trainer.epochs=2", f"trainer.runs='{tmp_path}'"])
    assert run.metrics["test/accuracy"] > 0.4
