"""What flowconf itself offers to configs, by the door that any project or package has.

Nothing is imported here: the modules named are read, and imported when a config uses one of their names.
"""

from flowconf.language.registry import offer

offer(
    modules="flowconf.graph.blocks",
    losses="flowconf.train.objective.losses",
    metrics="flowconf.train.objective.metrics",
    optimizers="flowconf.train.optim.optimizers",
    schedules="flowconf.train.optim.schedules",
    datasets=[
        "flowconf.train.data.builtin",
        "flowconf.train.data.files",
        "flowconf.train.data.images",
        "flowconf.train.data.tables",
    ],
    loggers="flowconf.train.runs.loggers",
    adapters="flowconf.graph.adapters",
    callbacks="flowconf.train.callbacks.builtin",
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
