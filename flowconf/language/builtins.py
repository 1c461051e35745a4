"""Where the names that come with flowconf live. Their source is read, not imported."""

from __future__ import annotations

MODULES = (
    "flowconf.graph.blocks",
    "flowconf.fbrl.glimpse",
)
LOSSES = ("flowconf.train.losses", "flowconf.fbrl.losses")
METRICS = ("flowconf.train.metrics", "flowconf.fbrl.metrics")
OPTIMIZERS = ("flowconf.train.optimizers",)
SCHEDULES = ("flowconf.train.schedules",)
LOGGERS = ("flowconf.train.loggers",)
DATASETS = ("flowconf.train.datasets", "flowconf.train.datafiles", "flowconf.fbrl.data")

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
