"""Members from torchvision, timm and transformers, where they are installed, against the packages themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import flowconf
from tests.other_packages import imported

LISTED = '[tool.flowconf]\npackages = ["torchvision.models", "timm", "transformers"]\n'


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Imports a package, and makes a project that lists it the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text(LISTED)
    return imported


def built(step: str, inputs: str):
    Path("graph.yaml").write_text(f"inputs: {inputs}\nflow:\n  a:\n    {step}\n    frozen: true\n")
    assert flowconf.check("graph.yaml") == []
    return flowconf.build("graph.yaml")


def same_bits(graph, plain, *given, picked=lambda value: value):
    """The graph has the outputs of the plain module with the same weights, although it trains and that evaluates."""
    plain.load_state_dict(graph.module_at("a").state_dict())
    plain.eval()
    graph.train()
    with torch.no_grad():
        assert torch.equal(graph(*given), picked(plain(*given)))


IMAGE = "{image: [B, 3, 64, 64]}"


def test_resnet18_of_torchvision(package):
    models = package("torchvision.models")
    graph = built("through: torchvision.models.resnet18(num_classes=5)", IMAGE)
    assert graph.shapes["a"] == "[B, 5]"
    same_bits(graph, models.resnet18(num_classes=5), torch.randn(2, 3, 64, 64))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_b0", "swin_t", "convnext_tiny"])
def test_other_models_of_torchvision(name, package):
    models = package("torchvision.models")
    graph = built(f"through: torchvision.models.{name}(num_classes=5)", IMAGE)
    same_bits(graph, getattr(models, name)(num_classes=5), torch.randn(1, 3, 64, 64))


def test_a_vit_of_timm(package):
    timm = package("timm")
    options = "'vit_tiny_patch16_224', num_classes=4, img_size=32, depth=2"
    graph = built(f"through: timm.create_model({options})", "{image: [B, 3, 32, 32]}")
    assert graph.shapes["a"] == "[B, 4]"
    plain = timm.create_model("vit_tiny_patch16_224", num_classes=4, img_size=32, depth=2)
    same_bits(graph, plain, torch.randn(2, 3, 32, 32))


def test_features_of_timm(package):
    timm = package("timm")
    graph = built("through: timm.create_model('resnet18', features_only=true)\n    take: 2", IMAGE)
    assert graph.shapes["a"] == "[B, 128, 8, 8]"
    plain = timm.create_model("resnet18", features_only=True)
    same_bits(graph, plain, torch.randn(2, 3, 64, 64), picked=lambda levels: levels[2])


UNET = """
inputs: {image: [B, 3, 64, 64]}
flow:
  encoder:
    through: timm.create_model('resnet18', features_only=true, out_indices=[1, 2, 3])
    frozen: true
  deep: {fork: Identity, from: encoder, take: 2}
  middle: {fork: Identity, from: encoder, take: 1}
  up: {from: deep, through: 'ConvTranspose2d(256, 128, 2, 2)'}
  joined: {through: Concat(dim=1), using: [middle]}
  again: Conv2d(256, 64, 3, padding=1) >> ReLU >> ConvTranspose2d(64, 64, 2, 2)
  last: {through: Concat(dim=1), using: [encoder.layer1]}
  pixels: Conv2d(128, 3, 1)
"""


def test_a_unet_of_frozen_features_learns_as_one_written_by_hand(package):
    timm = package("timm")
    Path("unet.yaml").write_text(UNET)
    assert flowconf.check("unet.yaml") == []
    graph, image = flowconf.build("unet.yaml"), torch.randn(2, 3, 64, 64)
    plain = timm.create_model("resnet18", features_only=True, out_indices=[1, 2, 3])
    plain.load_state_dict(graph.module_at("encoder").state_dict())
    plain.eval()

    def by_hand(image):
        with torch.no_grad():
            shallow, middle, deep = plain(image)
        joined = torch.cat([graph.up(deep), middle], 1)
        return graph.pixels(torch.cat([graph.again(joined), shallow], 1))

    graph.train()
    trained = {name: one for name, one in graph.named_parameters() if one.requires_grad}
    assert {name.split(".")[0] for name in trained} == {"up", "again", "pixels"}
    found = []
    for compute in (graph, by_hand):
        graph.zero_grad()
        out = compute(image)
        out.square().sum().backward()
        found.append([out.detach(), *(one.grad.clone() for one in trained.values())])
    assert found[0][0].shape == (2, 3, 16, 16)
    assert all(torch.equal(mine, other) for mine, other in zip(*found, strict=True))
    before = plain.state_dict()
    assert all(torch.equal(one, before[name]) for name, one in graph.module_at("encoder").state_dict().items())


BERT = "hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=50"
BERT_STEP = (
    f"through: transformers.BertModel(transformers.BertConfig({BERT}))\n"
    "    using: {attention_mask: mask}\n    take: last_hidden_state"
)
WORDS = "{words: {shape: [B, T], dtype: int64}, mask: {shape: [B, T], dtype: int64}}"


def test_a_bert_of_transformers(package):
    transformers = package("transformers")
    graph = built(BERT_STEP, WORDS)
    assert graph.shapes["a"] == "[B, T, 32]"
    config = transformers.BertConfig(**eval(f"dict({BERT})"))
    words, mask = torch.randint(0, 50, (2, 7)), torch.ones(2, 7, dtype=torch.int64)
    mask[1, 4:] = 0
    same_bits(graph, transformers.BertModel(config), words, mask, picked=lambda read: read.last_hidden_state)


def test_their_mistakes(package):
    package("transformers")
    package("timm")
    Path("graph.yaml").write_text(
        "inputs: {image: [B, 3, 64, 64]}\nflow:\n"
        "  a: torchvision.models.resnet18(weights='DEFAULT')\n"
        "  b: timm.create_model('resnet18', pretrained=true)\n"
        "  c: transformers.BertModel(transformers.BertConfig(hiden_size=3))\n"
        "  d: transformers.BertModel(transformers.GPT2Config())\n"
        "  e: transformers.BertModel.from_pretrained('x')\n"
        "  f: transformers.pipeline('x')\n"
    )
    found = [(one.code, one.place.line, one.place.column) for one in flowconf.check("graph.yaml")]
    assert found == [
        ("FC0133", 3, 42),
        ("FC0133", 4, 47),
        ("FC0133", 5, 53),
        ("FC0133", 6, 29),
        ("FC0132", 7, 6),
        ("FC0132", 8, 6),
    ]


@pytest.mark.parametrize(
    "call",
    [
        "timm.create_model('hf-hub:timm/resnet18.a1_in1k')",
        "torchvision.models.detection.fasterrcnn_resnet50_fpn()",
    ],
)
def test_nothing_is_downloaded(call, package):
    package("torchvision")
    package("timm")
    Path("graph.yaml").write_text(f'inputs: {IMAGE}\nflow:\n  a: "{call}"\n')
    (found,) = flowconf.check("graph.yaml")
    assert found.code == "FC0202"
    assert re.search("it would (connect to the network|change files)", found.message)
