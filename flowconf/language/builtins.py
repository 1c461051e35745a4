"""Where the names that come with flowconf live. Their source is read, not imported."""

from __future__ import annotations

MODULES = (
    "flowconf.graph.blocks",
    "flowconf.fbrl.glimpse",
)
LOSSES = ("flowconf.train.objective.losses", "flowconf.fbrl.losses")
METRICS = ("flowconf.train.objective.metrics", "flowconf.fbrl.metrics")
OPTIMIZERS = ("flowconf.train.optim.optimizers",)
SCHEDULES = ("flowconf.train.optim.schedules",)
LOGGERS = ("flowconf.train.runs.loggers",)
DATASETS = ("flowconf.train.data.named", "flowconf.train.data.files", "flowconf.fbrl.data")

TORCH_NN = "torch.nn.modules"
NOT_CALLABLE = frozenset(
    {
        "Module",
        "Container",
        "ModuleList",
        "ModuleDict",
        "ParameterList",
        "ParameterDict",
        "LinearCrossEntropyOptions",
    }
)
"""What `torch.nn` exports beside modules that can be called."""
