"""The names that the flagship offers to the configs of a project that lists this module."""

import flowconf

flowconf.offer(
    modules="flowconf.fbrl.glimpse",
    losses="flowconf.fbrl.losses",
    metrics="flowconf.fbrl.metrics",
    datasets="flowconf.fbrl.data",
    callbacks="flowconf.fbrl.atlas",
)
