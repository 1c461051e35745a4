"""What flowconf itself offers to configs, by the door that any project or package has.

Nothing is imported here: the modules named are read, and imported when a config uses one of their names.
"""

from flowconf.language.registry import offer
from flowconf.language.signatures import has_source

offer(
    modules="flowconf.graph.blocks",
    losses="flowconf.train.objective.losses",
    metrics="flowconf.train.objective.metrics",
    optimizers="flowconf.train.optim.optimizers",
    schedules="flowconf.train.optim.schedules",
    datasets=[
        "flowconf.train.data.builtin",
        "flowconf.train.data.idx",
        "flowconf.train.data.text",
        "flowconf.train.data.images",
        "flowconf.train.data.annotated",
        "flowconf.train.data.tables",
        "flowconf.train.data.tokens",
        "flowconf.train.data.huggingface",
    ],
    loggers="flowconf.train.runs.loggers",
    adapters="flowconf.graph.adapters",
    augmentations="flowconf.train.data.augmentations",
    callbacks="flowconf.train.callbacks.builtin",
)
if has_source("torchvision.transforms.v2"):
    offer(
        augmentations=[
            f"torchvision.transforms.v2.{part}"
            for part in ("_augment", "_auto_augment", "_color", "_container", "_geometry", "_misc")
        ],
        without=["CutMix", "MixUp", "Lambda", "LinearTransformation", "Sanitize*", "FiveCrop", "TenCrop"],
    )
offer(
    modules="torch.nn.modules",
    without=[
        "Module",
        "Container",
        "ModuleList",
        "ModuleDict",
        "ParameterList",
        "ParameterDict",
        "LinearCrossEntropyOptions",
        "Lazy*",
    ],
)
