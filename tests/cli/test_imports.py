"""The command line imports torch without its compiler, unless something compiles."""

import subprocess
import sys
import textwrap

import pytest


def run(code: str) -> str:
    """What a new process prints that runs `code` after torch was quickened."""
    code = f"import sys\nfrom flowconf.cli.imports import quicken_torch\nquicken_torch()\n{code}"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", ["check", "train"])
def test_commands_do_not_load_the_compiler(command, tmp_path, monkeypatch):
    text = """
        model:
          inputs: {image: [B, 32]}
          flow: {logits: 'Linear(32, 10)'}
        data: {name: synthetic}
        loss: {label: {fn: cross_entropy, input: logits, target: label}}
        trainer: {steps: 2, tensorboard: false}
    """
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "c.yaml"
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    code = f"""
from flowconf.cli.main import main
assert main({[command, str(file)]!r}) == 0
assert "torch" in sys.modules
print([name for name in sys.modules if name in ("torch._dynamo.convert_frame", "torch._inductor", "sklearn")])
"""
    assert run(code).splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "first",
    [
        "import torch._dynamo.source",
        "import torch._inductor.utils",
        "torch.optim.AdamW([torch.zeros(1, requires_grad=True)]).zero_grad()",
    ],
)
def test_the_compiler_is_there_when_it_is_needed(first):
    code = f"""
import torch
{first}
assert not hasattr(torch._dynamo, "__no_such_thing__") if hasattr(torch, "_dynamo") else True
double = torch.compile(lambda value: value * 2, backend="eager")
import torch._dynamo.source
source = sys.modules["torch._dynamo.source"]
assert source is torch._dynamo.source and source.__spec__.name == "torch._dynamo.source"
assert type(sys.modules["torch._dynamo"]) is type(sys)
print(double(torch.ones(2)).tolist(), torch._dynamo.is_compiling())
"""
    assert run(code) == "[2.0, 2.0] False\n"


def test_what_was_excluded_before_stays_excluded():
    code = """
import torch, torch._dynamo
@torch._dynamo.disable
def excluded(value):
    return value + (0 if torch.compiler.is_compiling() else 1)
print(excluded(torch.zeros(1)).item())
print(torch.compile(lambda value: excluded(value) * 2, backend="eager")(torch.zeros(1)).item())
decorate = torch._dynamo.disable(recursive=True)
print(decorate(excluded)(torch.zeros(1)).item())
"""
    assert run(code).split() == ["1.0", "2.0", "1.0"]


def test_a_process_that_has_torch_is_left_alone():
    code = """
import torch
before = list(sys.meta_path)
quicken_torch()
assert sys.meta_path == before
"""
    code = f"import sys\nimport torch\nfrom flowconf.cli.imports import quicken_torch\n{code}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
