"""The same small network trained by other tools, and by flowconf: microseconds of CPU for a step.

    python benchmarks/peers.py [--rounds 5] [--environment FOLDER] [--out FOLDER]

Sets up an environment of its own the first time (`pip install` of the tools and of this checkout, a few minutes), and
runs there. Everything trains 32 -> 64 -> 10 on the same rows with a batch size of 32 and AdamW. A step's time is the
difference between a long and a short run, and the tools run in turns. A tool that cannot be installed has no row.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import traceback
import venv
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = ("pytorch-lightning", "accelerate", "transformers", "keras")
LONG, SHORT = 2400, 400
ROWS, BATCH = 3200, 32


def main() -> None:
    parser = argparse.ArgumentParser(description="a step of training by other tools")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--environment", type=Path, default=HERE.parent / "build" / "peers")
    parser.add_argument("--out", type=Path, help="the folder for `peers.json`")
    parser.add_argument("--inside", action="store_true", help="run in this environment, as it is")
    options = parser.parse_args()
    if options.inside:
        measure(options.rounds, options.out)
        return
    python = options.environment / "bin" / "python"
    ready = options.environment / ".ready"
    if not ready.exists():
        venv.create(options.environment, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-c", str(HERE.parent / "constraints.txt"), "-e", str(HERE.parent)], check=True)
        for package in PACKAGES:
            subprocess.run([*pip, package], check=False)
        ready.touch()
    out = ["--out", str(options.out)] if options.out else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "KERAS_BACKEND": "torch", "HF_HUB_OFFLINE": "1"}
    words = [str(python), str(Path(__file__)), "--inside", "--rounds", str(options.rounds), *out]
    subprocess.run(words, check=True, env=environment)


def measure(rounds: int, out: Path | None) -> None:
    """Run all tools that can be imported, in turns."""
    import torch
    from clock import now
    from table import Table, ratio

    torch.set_num_threads(1)
    device = torch.device("cpu")
    runs = {name: run for name, run in TOOLS.items() if works(name, run)}
    took: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs)[:: 1 if number % 2 else -1]:
            seconds = []
            for steps in (LONG, SHORT):
                begin = now(device)
                silently(runs[name], steps)
                seconds.append(now(device) - begin)
            took[name].append((seconds[0] - seconds[1]) / (LONG - SHORT))
    base = took["a loop by hand"]
    about = (
        "A network of two layers (32 → 64 → 10, batch size 32, AdamW) on resident or loaded rows, as each "
        "tool is commonly used: what a tool costs in each step, apart from the network, which is the same. "
        "`quiet`: without logs, progress bars and checkpoints."
    )
    table = Table("peers", "Other tools", about, ["tool", "version", "µs a step", "to the loop by hand"])
    for name, times in took.items():
        table.add(name, version_of(name), f"{1e6 * statistics.median(times):,.0f}", ratio(times, base))
    table.save(out)


def works(name: str, run: Callable[[int], None]) -> bool:
    """Whether a tool is there and trains; one that does not must not end the comparison of the others."""
    try:
        silently(run, 2)
    except Exception:  # noqa: BLE001 - whatever a tool raises
        traceback.print_exc(limit=-1)
        print(f"{name} is left out", file=sys.stderr)
        return False
    return True


def silently(run: Callable[[int], None], steps: int) -> None:
    """Train without output on the screen."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        run(steps)


def version_of(name: str) -> str:
    from importlib.metadata import version

    packages = {"lightning": "pytorch-lightning", "hugging": "transformers", "a": "torch"}
    first = name.lower().split()[0].rstrip(",")
    return version(packages.get(first, first))


# the tools; each trains for a number of steps


def network():  # type: ignore[no-untyped-def]
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
    return model, torch.randn(ROWS, 32), torch.randint(10, (ROWS,))


def loader_of(image, label):  # type: ignore[no-untyped-def]
    from torch.utils.data import DataLoader, TensorDataset

    return DataLoader(TensorDataset(image, label), BATCH, shuffle=True)


def by_hand(steps: int) -> None:
    """Rows in memory, a fused optimizer."""
    import torch
    import torch.nn.functional as F

    model, image, label = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    done = 0
    while done < steps:
        for rows in torch.randperm(ROWS).split(BATCH):
            loss = F.cross_entropy(model(image.index_select(0, rows)), label.index_select(0, rows))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            if done == steps:
                break


def script(steps: int) -> None:
    """A `DataLoader`, the optimizer as it comes, `loss.item()` in each step."""
    import torch
    import torch.nn.functional as F

    model, image, label = network()
    optimizer, done = torch.optim.AdamW(model.parameters(), lr=1e-3), 0
    while done < steps:
        for x, y in loader_of(image, label):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            loss.item()
            done += 1
            if done == steps:
                break


CONFIG = """
model:
  inputs: {{image: [B, 32]}}
  flow: {{hidden: 'Linear(32, 64) >> ReLU', logits: 'Linear(64, 10)'}}
data: {{name: synthetic, rows: {rows}, shape: [32], validation: {held}, test: 0, batch_size: 32}}
loss: {{label: {{fn: cross_entropy, input: logits, target: label}}}}
optimizer: {{name: adamw, lr: 0.001}}
trainer: {{steps: {steps}, devices: cpu, threads: 1, runs: runs{more}}}
"""


def ours(steps: int, default: bool) -> None:
    import flowconf

    held, more = (0.1, "") if default else (0, f", checkpoint_every: {steps}")
    rows = int(ROWS / (1 - held))
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "c.yaml"
        file.write_text(CONFIG.format(rows=rows, held=held, steps=steps, more=more), encoding="utf-8")
        flowconf.train(str(file), [f"trainer.runs={name}/runs"])


def lightning(steps: int, quiet: bool) -> None:
    import logging
    import warnings

    import pytorch_lightning as pl
    import torch
    import torch.nn.functional as F

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.image, self.label = network()

        def training_step(self, batch, number):  # type: ignore[no-untyped-def]
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):  # type: ignore[no-untyped-def]
            return torch.optim.AdamW(self.net.parameters(), lr=1e-3)

    module = Module()
    with tempfile.TemporaryDirectory() as folder:
        off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False} if quiet else {}
        more = {"max_steps": steps, "accelerator": "cpu", "default_root_dir": folder, "enable_model_summary": False}
        trainer = pl.Trainer(**more, **off)
        trainer.fit(module, loader_of(module.image, module.label))


def accelerate(steps: int) -> None:
    import torch
    import torch.nn.functional as F
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model, image, label = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader_of(image, label))
    done = 0
    while done < steps:
        for x, y in loader:
            optimizer.zero_grad()
            accelerator.backward(F.cross_entropy(model(x), y))
            optimizer.step()
            done += 1
            if done == steps:
                break


def hugging_face(steps: int) -> None:
    import torch.nn.functional as F
    from torch import nn
    from transformers import Trainer, TrainingArguments

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.image, self.label = network()

        def forward(self, x, labels):  # type: ignore[no-untyped-def]
            return {"loss": F.cross_entropy(self.net(x), labels)}

    model = Model()
    rows = [{"x": x, "labels": y} for x, y in zip(model.image, model.label, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, max_steps=steps, per_device_train_batch_size=BATCH, use_cpu=True, report_to=[], disable_tqdm=True
        )
        Trainer(model, arguments, train_dataset=rows).train()


def keras_(steps: int) -> None:
    import keras

    _, image, label = network()
    model = keras.Sequential([keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.AdamW(1e-3), loss=loss)
    model.fit(
        image[: steps * BATCH], label[: steps * BATCH], batch_size=BATCH, epochs=-(-steps * BATCH // ROWS), verbose=0
    )


TOOLS: dict[str, Callable[[int], None]] = {
    "a loop by hand": by_hand,
    "a script": script,
    "flowconf, quiet": lambda steps: ours(steps, False),
    "flowconf": lambda steps: ours(steps, True),
    "Accelerate": accelerate,
    "Lightning, quiet": lambda steps: lightning(steps, True),
    "Lightning": lambda steps: lightning(steps, False),
    "Hugging Face Trainer": hugging_face,
    "Keras (torch)": keras_,
}


if __name__ == "__main__":
    main()
