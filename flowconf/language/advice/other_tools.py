"""Names of other tools, and the corresponding names of flowconf, which are suggested before similar names."""

from __future__ import annotations

import re
from collections.abc import Collection

DOCUMENT = {
    "name": "label",
    "layers": "flow",
    "steps": "flow",
    "nodes": "flow",
    "network": "flow",
    "backbone": "flow",
    "parameters": "params",
    "hyperparameters": "params",
    "vars": "params",
    "args": "params",
    "model": "flow",
}
"""Keys of a graph document."""

STEP = {
    "input": "from",
    "inputs": "from",
    "source": "from",
    "name": "tag",
    "id": "tag",
    "alias": "tag",
    "with_args": "using",
    "use": "using",
    "extra": "using",
    "weights": "checkpoint",
    "load": "checkpoint",
    "ckpt": "checkpoint",
    "initialise": "init",
    "initialize": "init",
    "initializer": "init",
    "iterations": "times",
    "steps": "times",
    "count": "times",
    "tied": "tie",
    "tied_to": "tie",
    "tie_weights": "tie",
    "share_weights": "tie",
    "ema_of": "follows",
    "follow": "follows",
    "teacher_of": "follows",
    "momentum_of": "follows",
    "n": "repeat",
    "copies": "repeat",
    "parameters": "with",
    "axis": "dim",
    "combine": "merge",
    "reduce": "merge",
    "gating": "router",
    "selector": "router",
    "index": "take",
    "output": "take",
}
"""Keys beside a verb."""

AFTER = "write it as a module after the call, as in `Linear(8, 8) >> ReLU >> Dropout(0.1)`"
REMOVED = "to remove a step, set it to null: `flow.NAME=null` on the command line, or in a pivot"
NO_STEP_KEYS = {
    "trainable": "use `frozen: true` to keep weights unchanged",
    "requires_grad": "use `frozen: true` to keep weights unchanged",
    "pretrained": "use `checkpoint: ...` to load weights",
    "activation": AFTER,
    "act": AFTER,
    "dropout": AFTER,
    "norm": AFTER,
    "normalization": AFTER,
    "outputs": "the name of a step is the name of its output; `tag: ...` adds another one",
    "if": REMOVED,
    "enabled": REMOVED,
    "optional": REMOVED,
    "shape": "shapes are inferred from `inputs`",
    "dtype": "dtypes are those of `inputs`",
    "device": "`trainer.devices` sets the devices of a run",
}
"""The advice for keys that steps do not have."""

VERBS = {
    "apply": "through",
    "call": "through",
    "layer": "through",
    "layers": "through",
    "module": "through",
    "op": "through",
    "op_type": "through",
    "function": "through",
    "fn": "through",
    "do": "through",
    "type": "through",
    "class": "through",
    "class_name": "through",
    "class_path": "through",
    "_target_": "through",
    "target": "through",
    "residual": "also",
    "shortcut": "also",
    "add": "also",
    "head": "fork",
    "probe": "fork",
    "branch": "split",
    "branches": "split",
    "parallel": "split",
    "experts": "gate",
    "moe": "gate",
    "mixture": "gate",
    "choose": "switch",
    "case": "switch",
    "cond": "switch",
    "for": "loop",
    "while": "loop",
    "until": "loop",
    "recurrent": "loop",
    "foreach": "map",
    "each": "map",
    "for_each": "map",
    "include": "graph",
    "mount": "graph",
    "subgraph": "graph",
    "use": "graph",
    "import": "graph",
    "share": "reuse",
    "shared": "reuse",
    "same": "reuse",
    "tie": "reuse",
}
"""Verbs."""

MODULES = {
    "dense": "Linear",
    "fc": "Linear",
    "fullyconnected": "Linear",
    "swish": "SiLU",
    "layernormalization": "LayerNorm",
    "attention": "MultiheadAttention",
    "multiheadselfattention": "MultiheadAttention",
    "view": "Reshape",
    "unsqueeze": "Unflatten",
    "squeeze": "Flatten",
    "concatenate": "Concat",
    "add": "StateAdd",
    "globalaveragepooling2d": "AdaptiveAvgPool2d",
}
"""Modules, in lower case without `_`."""

MERGES = {
    "sum": "add",
    "plus": "add",
    "+": "add",
    "average": "mean",
    "avg": "mean",
    "prod": "mul",
    "product": "mul",
    "multiply": "mul",
    "maximum": "max",
    "concat": "cat",
    "concatenate": "cat",
}
"""Ways to merge branches."""

DTYPES = {
    "float": "float32",
    "double": "float64",
    "half": "float16",
    "long": "int64",
    "int": "int64",
    "short": "int16",
    "char": "int8",
    "byte": "uint8",
    "boolean": "bool",
    "bf16": "bfloat16",
    "fp32": "float32",
    "fp16": "float16",
}
"""Types of inputs."""

STARTS = {
    "he_normal": "kaiming_normal",
    "he_uniform": "kaiming_uniform",
    "glorot_normal": "xavier_normal",
    "glorot_uniform": "xavier_uniform",
    "gaussian": "normal",
    "randn": "normal",
    "zero": "zeros",
    "one": "ones",
}
"""Initial values of parameters."""

CONFIG: dict[str, str] = {
    "model": "net network arch architecture backbone",
    "data": "dataset datasets datamodule dataloader train_data",
    "loss": "criterion objective cost",
    "schedule": "lr_scheduler lr_schedule",
    "seed": "seed_everything manual_seed random_seed",
    "defaults": "include includes extends imports inherit base _base_",
    "init_from": "pretrained load_from ckpt_path resume resume_from resume_from_checkpoint weights",
    "batch_size": "bs batch train_batch_size",
    "evaluation_batch_size": "val_batch_size eval_batch_size",
    "workers": "num_workers",
    "folder": "root data_dir path dir",
    "train": "root data_dir path file",
    "file": "path",
    "fn": "function _target_ type name loss metric cls class",
    "name": "_target_ type cls class class_name fn kind",
    "input": "pred preds prediction predictions output outputs source",
    "target": "y labels truth ground_truth gold",
    "weight": "coefficient coef scale factor lambda",
    "args": "kwargs params options arguments",
    "lr": "learning_rate base_lr initial_lr",
    "weight_decay": "wd l2 decay",
    "groups": "param_groups parameter_groups params",
    "warmup": "warmup_steps num_warmup_steps",
    "final": "min_lr eta_min final_lr end_factor",
    "when": "start begin at",
    "until": "end stop milestone",
    "freeze": "frozen",
    "thaw": "unfreeze unfrozen",
    "epochs": "max_epochs num_epochs n_epochs num_train_epochs",
    "steps": "max_steps num_steps total_steps iterations max_iters",
    "devices": "gpus gpu accelerator num_devices",
    "nodes": "num_nodes",
    "precision": "fp16 bf16 amp mixed_precision half dtype",
    "clip": "gradient_clip_val max_grad_norm grad_clip clip_grad clip_grad_norm",
    "accumulate": "accumulate_grad_batches gradient_accumulation_steps",
    "ema": "ema_decay",
    "patience": "early_stopping early_stop",
    "evaluate_every": "check_val_every_n_epoch val_check_interval eval_every eval_steps eval_interval val_every",
    "checkpoint_every": "save_every save_steps save_interval checkpoint_interval every_n_train_steps",
    "log_every": "log_every_n_steps logging_steps log_interval",
    "best": "monitor metric_for_best_model save_best",
    "progress": "enable_progress_bar progress_bar",
    "runs": "output_dir default_root_dir log_dir save_dir",
}
"""Keys of a training config -> what other tools call them."""


def meant(word: str, table: dict[str, str], allowed: Collection[str]) -> str | None:
    """The name of flowconf for `word`, if it is allowed."""
    found = table.get(word) or table.get(word.lower().replace("_", ""))
    return found if found in allowed else None


NOT_MODULES = {
    "modulelist": "write the modules as a chain, `A >> B`, or as steps of a `flow`",
    "moduledict": "write the modules as the branches of a `split`",
    "sum": "to add the outputs of branches, use `split` with `merge: add`; to add a module to its stream, use `also`",
    "rearrange": "use `Reshape`, `Flatten` or `Unflatten`",
    "permute": "`Transpose` swaps two dimensions",
    "max": "calls support the operators `+ - * / // % **`",
    "min": "calls support the operators `+ - * / // % **`",
    "int": "use `//` for integer division; calls support the operators `+ - * / // % **`",
    "round": "use `//` for integer division; calls support the operators `+ - * / // % **`",
    "sqrt": "use `** 0.5` for a square root; calls support the operators `+ - * / // % **`",
    "range": "write out the list",
    "len": "add the length to `params`",
}
"""The advice for names that are not modules, in lower case without `_`."""


def for_module(name: str, names: Collection[str]) -> str | None:
    """The advice for an unknown module of other tools: its name in flowconf, or an alternative."""
    folded = name.lower().replace("_", "")
    if folded in NOT_MODULES:
        return NOT_MODULES[folded]
    close = meant(name, MODULES, names)
    if close is not None:
        return f"use `{close}`"
    form = re.compile(rf"{re.escape(folded)}[123]d", re.IGNORECASE)
    sizes = [f"`{known}`" for known in sorted(names) if form.fullmatch(known)]
    return f"write {', '.join(sizes[:-1])} or {sizes[-1]}" if len(sizes) > 1 else None


def for_key(key: str, allowed: Collection[str]) -> str | None:
    """The allowed key of a training config that other tools call `key`."""
    return next((ours for ours in allowed if key.lower() in CONFIG.get(ours, "").split()), None)
