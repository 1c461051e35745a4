"""Reserved names, which Python, modules or the generated source use."""

from __future__ import annotations

import keyword

MODULE_ATTRIBUTES = frozenset({
    "T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init", "children", "compile", "cpu",
    "cuda", "double", "dump_patches", "eval", "extra_repr", "float", "forward", "get_buffer", "get_extra_state",
    "get_parameter", "get_submodule", "half", "ipu", "load_state_dict", "modules", "mtia", "named_buffers",
    "named_children", "named_modules", "named_parameters", "parameters", "register_backward_hook",
    "register_buffer", "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_load_state_dict_post_hook", "register_load_state_dict_pre_hook",
    "register_module", "register_parameter", "register_state_dict_post_hook", "register_state_dict_pre_hook",
    "requires_grad_", "set_extra_state", "set_submodule", "share_memory", "state_dict", "to", "to_empty", "train",
    "training", "type", "xpu", "zero_grad",
})  # fmt: skip
"""The attributes of `torch.nn.Module` itself; a test compares them with the installed torch."""

GRAPH_ATTRIBUTES = frozenset({
    "dot", "freeze", "html", "inputs", "is_frozen", "kind", "load", "module_at", "modules_at",
    "named_parameters_at", "observe", "parameters_at", "parts_at", "plan", "save", "shapes", "source", "subgraph",
    "summary", "svg", "swap", "tagged", "thaw", "train_at", "view", "detach_state", "reset_state", "has_state",
})  # fmt: skip
"""The attributes of a built graph; a test compares them with `flowconf.graph.Graph`."""

DICT_ATTRIBUTES = frozenset({"clear", "items", "keys", "pop", "update", "values"})
"""Further attributes of `torch.nn.ModuleDict`, which cannot be the names of branches."""

RUNTIME = (
    "adapted", "arguments_of", "cat_each", "halts", "element_of", "iteration_of", "one_for_each", "only_inner",
    "recall", "route", "stack_each", "top_experts", "unbind_each", "unflatten_each", "with_inner",
)  # fmt: skip
"""Functions of `flowconf.graph.runtime` that the generated source calls."""

GENERATED = frozenset({"self", "super", "torch", "nn", "range", "enumerate", "zip", *RUNTIME})
"""Names that the generated source uses."""

STATE = "between_calls"
"""The attribute in which the generated source keeps state between calls."""


def refusal(name: str, attribute: bool = True) -> str | None:
    """Why `name` is reserved, or None; `attribute`: the name becomes an attribute of a module."""
    if keyword.iskeyword(name):
        return "is a Python keyword"
    if attribute and name in MODULE_ATTRIBUTES:
        return "is an attribute of every module"
    if attribute and name in GRAPH_ATTRIBUTES:
        return "is an attribute of every graph"
    if name in GENERATED or (attribute and name == STATE):
        return "is used by the generated source"
    return "begins with two underscores" if name.startswith("__") else None
