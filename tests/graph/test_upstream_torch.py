"""The private parts of torch that flowconf relies on, so that an upgrade that changes one is noticed here.

`PRIVATE` lists them, and a test holds the list against the source: whoever uses another one adds it, with a test.
Hydra's private parts are pinned in `tests/text/test_upstream_hydra.py`.
"""

from __future__ import annotations

import ast
import inspect
import logging
import re
import traceback
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

import flowconf

PACKAGE = Path(flowconf.__file__).parent
HYDRA = (PACKAGE / "text" / "hydra_bridge.py", PACKAGE / "text" / "grammars.py")
PRIVATE = {
    "torch.Tensor._version",
    "torch.UntypedStorage._cdata",
    "torch._C._autograd._get_sequence_nr",
    "torch._C._current_autograd_node",
    "torch._dynamo",
    "torch._dynamo.eval_frame.OptimizedModule._orig_mod",
    "torch._foreach_copy_",
    "torch._foreach_lerp_",
    "torch._fused_adam_",
    "torch._fused_adamw_",
    "torch._guards.active_fake_mode",
    "torch._inductor",
    "torch._subclasses.fake_tensor",
    "torch._subclasses.fake_tensor.FakeTensor._is_param",
    "torch.autograd.graph.Node._sequence_nr",
    "torch.distributed.ProcessGroup._get_backend",
    "torch.distributed.ProcessGroupGloo._set_default_timeout",
    "torch.fx.experimental.symbolic_shapes",
    "torch.mps._get_default_mps_generator",
    "torch.nn.Module._buffers",
    "torch.nn.Module._call_impl",
    "torch.nn.Module._compiled_call_impl",
    "torch.nn.Module._modules",
    "torch.nn.Module._wrapped_call_impl",
    "torch.nn.init._no_grad_trunc_normal_",
    "torch.nn.modules.batchnorm._BatchNorm",
    "torch.nn.modules.batchnorm._BatchNorm._check_input_dim",
    "torch.nn.modules.conv._ConvNd",
    "torch.nn.modules.conv._ConvTransposeNd",
    "torch.nn.modules.pooling._AvgPoolNd",
    "torch.nn.modules.pooling._MaxPoolNd",
    "torch.nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model",
    "torch.utils.data._utils.collate.collate",
    "torch.utils.data.dataloader._MultiProcessingDataLoaderIter._shutdown_workers",
    "torch.utils.data.dataloader._MultiProcessingDataLoaderIter._workers",
    "torch.utils._python_dispatch.TorchDispatchMode",
    "torch.utils._pytree.tree_leaves",
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def own_names() -> set[str]:
    """Private attributes of flowconf's own classes, and of named tuples."""
    found = {"_asdict", "_fields"}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found |= {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
                found |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found |= {node.attr} if ast.unparse(node.value) == "self" else set()
    return found


def names_in(node: ast.AST) -> list[str]:
    """The names that a node reads of somebody else: an attribute, parts of an import, a name in `getattr`, a logger."""
    match node:
        case ast.Attribute(value=ast.Name(id="os" | "sys")):  # documented, with an underscore
            return []
        case ast.Attribute(attr=name):
            return [name]
        case ast.ImportFrom(module=str(module), names=aliases) if module.startswith("torch"):
            return [*module.split("."), *(alias.name for alias in aliases)]
        case ast.Import(names=aliases):
            return [part for alias in aliases for part in alias.name.split(".")]
        case ast.Call(func=ast.Name(id="getattr" | "hasattr"), args=[_, ast.Constant(value=str(name)), *_]):
            return [name]
        case ast.Constant(value=str(name)) if re.fullmatch(r"torch(\.\w+)+", name):
            return name.split(".")
    return []


@cache
def private_uses() -> dict[str, str]:
    """Every private name of somebody else's that the package uses, and where."""
    own = own_names()
    found = {}
    for file in sorted(set(PACKAGE.rglob("*.py")) - set(HYDRA)):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for name in names_in(node):
                if (is_private(name) and name not in own) or name == "experimental":
                    found[name] = f"{file.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
    return found


def test_every_private_part_that_is_used_is_pinned():
    known = {part for name in PRIVATE for part in name.split(".")}
    assert {name: where for name, where in private_uses().items() if name not in known} == {}


def test_every_pinned_part_is_used():
    last = {
        name: [part for part in name.split(".") if is_private(part) or part == "experimental"][-1] for name in PRIVATE
    }
    assert {name: part for name, part in last.items() if part not in private_uses()} == {}


def test_sequence_numbers_tell_in_which_visit_a_node_was_made():
    """`tracing` marks where a visit begins and ends, and finds the visit of a node by its number."""
    x = torch.ones(2, requires_grad=True)
    before = torch._C._autograd._get_sequence_nr()
    first = x * 2
    between = torch._C._autograd._get_sequence_nr()
    second = first * 3
    assert before <= first.grad_fn._sequence_nr() < between <= second.grad_fn._sequence_nr()
    accumulating = first.grad_fn.next_functions[0][0]
    assert accumulating._sequence_nr() >= 2**63


def test_the_current_node_is_known_in_a_backward_pass_alone():
    seen = []
    x = torch.ones(2, requires_grad=True)
    y = x * 2
    x.register_hook(lambda gradient: seen.append(torch._C._current_autograd_node()))
    assert torch._C._current_autograd_node() is None
    y.sum().backward()
    assert seen != [None]


def test_fake_parameters_of_the_active_mode():
    from torch._guards import active_fake_mode
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    assert active_fake_mode() is None
    with FakeTensorMode() as mode:
        assert active_fake_mode() is mode
        fake = FakeTensor(mode, torch.empty(2, device="meta"), torch.device("cpu"))
    assert not isinstance(fake, nn.Parameter)
    fake._is_param = True
    assert isinstance(fake, nn.Parameter)


def test_lists_of_tensors_are_changed_at_once():
    averages, weights = [torch.zeros(2), torch.zeros(3)], [torch.ones(2), torch.ones(3)]
    torch._foreach_lerp_(averages, weights, 0.25)
    assert [value.tolist() for value in averages] == [[0.25] * 2, [0.25] * 3]
    torch._foreach_copy_(weights, averages)
    assert [value.tolist() for value in weights] == [[0.25] * 2, [0.25] * 3]


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_the_fused_kernels_take_the_lists_that_their_optimizers_collect(name):
    """A step of torch's optimizer, and the same from its state before by the kernel alone."""
    weight, grad = nn.Parameter(torch.ones(2)), torch.tensor([0.5, -2.0])
    optimizer = getattr(torch.optim, name)([weight], lr=0.1, weight_decay=0.1, fused=True)
    kept = []
    for _ in range(2):
        kept.append((weight.detach().clone(), {key: value.clone() for key, value in optimizer.state[weight].items()}))
        weight.grad = grad
        optimizer.step()
    own, state = kept[1]
    assert state.keys() == {"step", "exp_avg", "exp_avg_sq"}
    kernel = getattr(torch, f"_fused_{name.lower()}_")
    lists = [[own], [grad], [state["exp_avg"]], [state["exp_avg_sq"]], [], [state["step"].add_(1)]]
    settings = {"lr": 0.1, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.1, "eps": 1e-8}
    kernel(*lists, **settings, amsgrad=False, maximize=False)
    assert torch.equal(own, weight)


def test_fake_tensors_have_shapes_and_refuse_what_needs_numbers():
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
        FakeTensorMode,
        UnsupportedFakeTensorException,
        unset_fake_temporarily,
    )

    assert issubclass(UnsupportedFakeTensorException, RuntimeError)
    with FakeTensorMode(allow_non_fake_inputs=True):
        fake = nn.Linear(4, 2)(torch.zeros(3, 4))
        assert tuple(fake.shape) == (3, 2)
        assert tuple((fake + nn.Parameter(torch.zeros(2))).shape) == (3, 2)
        with unset_fake_temporarily():
            assert type(torch.zeros(2)) is torch.Tensor
        with pytest.raises(DataDependentOutputException):
            bool(fake.sum() > 0)
        with pytest.raises(DynamicOutputShapeException):
            fake.nonzero()


@pytest.mark.parametrize("name", ["torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes"])
def test_the_loggers_that_are_silenced_are_torchs(name):
    """The shape check keeps them quiet; a logger that torch no longer uses would be silenced in vain."""
    from importlib import import_module

    loggers = [value for value in vars(import_module(name)).values() if isinstance(value, logging.Logger)]
    assert name in [logger.name for logger in loggers]


def test_a_module_is_called_through_these():
    """`explain` reads the frames of a failed call, and the outermost graph skips one of them."""

    class Failing(nn.Module):
        def forward(self, x, *, more):
            raise ValueError

    module, x = Failing(), torch.ones(1)
    with pytest.raises(ValueError) as caught:
        module(x, more=2)
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    (call,) = [frame for frame in frames if frame.f_code is nn.Module._wrapped_call_impl.__code__]
    assert call.f_locals["self"] is module
    assert call.f_locals["args"] == (x,)
    assert call.f_locals["kwargs"] == {"more": 2}
    assert module._compiled_call_impl is None
    source = inspect.getsource(nn.Module._wrapped_call_impl)
    assert "self._compiled_call_impl(" in source
    assert "self._call_impl(" in source


def test_children_are_kept_in_a_dict():
    outer = nn.Sequential(nn.Linear(2, 2, bias=False))
    assert list(outer._modules) == ["0"]
    outer._modules["0"] = nn.ReLU()
    assert isinstance(outer[0], nn.ReLU)
    twin = nn.Sequential.__new__(nn.Sequential)
    twin.__dict__.update(outer.__dict__)
    twin.__dict__["_modules"] = {"0": nn.Tanh()}
    assert (type(twin[0]), type(outer[0])) == (nn.Tanh, nn.ReLU)


@pytest.mark.parametrize(
    ("base", "modules"),
    [
        (nn.modules.batchnorm._BatchNorm, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)),
        (nn.modules.conv._ConvNd, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)),
        (nn.modules.conv._ConvTransposeNd, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)),
        (nn.modules.pooling._AvgPoolNd, (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)),
        (nn.modules.pooling._MaxPoolNd, (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)),
    ],
)
def test_relatives_share_a_base(base, modules):
    assert all(issubclass(module, base) for module in modules)


def test_a_batch_norm_checks_what_it_is_given():
    with pytest.raises(ValueError, match="expected 4D input"):
        nn.BatchNorm2d(3)._check_input_dim(torch.zeros(2, 3))


def test_parameters_can_be_left_out_of_a_parallel_module():
    from torch.nn.parallel import DistributedDataParallel

    module = nn.Linear(2, 2)
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, ["bias"])
    assert module._ddp_params_and_buffers_to_ignore == ["bias"]
    assert "_ddp_params_and_buffers_to_ignore" in inspect.getsource(DistributedDataParallel.__init__)


def test_a_metal_device_has_a_generator():
    assert inspect.signature(torch.mps._get_default_mps_generator).return_annotation is torch.Generator


def test_a_backend_has_a_timeout_of_its_own():
    from datetime import timedelta

    torch.distributed.init_process_group("cpu:gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    try:
        gloo = torch.distributed.group.WORLD._get_backend(torch.device("cpu"))
        gloo._set_default_timeout(timedelta(seconds=7))
        assert gloo.options._timeout == timedelta(seconds=7)
    finally:
        torch.distributed.destroy_process_group()


def test_a_compiled_module_holds_its_original():
    module = nn.Linear(2, 2)
    assert torch.compile(module, backend="eager")._orig_mod is module


def test_the_workers_of_a_loader_can_be_shut_down():
    from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

    assert list(inspect.signature(_MultiProcessingDataLoaderIter._shutdown_workers).parameters) == ["self"]
    assert "self._workers.append(w)" in inspect.getsource(_MultiProcessingDataLoaderIter.__init__)


def test_the_rules_of_collation_can_be_replaced():
    from torch.utils.data._utils.collate import collate, collate_tensor_fn, default_collate_fn_map

    rules = {**default_collate_fn_map, torch.Tensor: lambda batch, *, collate_fn_map: len(batch)}
    assert collate([{"a": torch.ones(1)}, {"a": torch.ones(1)}], collate_fn_map=rules) == {"a": 2}
    assert collate_tensor_fn([torch.ones(1), torch.zeros(1)]).tolist() == [[1.0], [0.0]]


def test_dispatch_modes_see_every_operation():
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Seeing(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func.__name__.split(".")[0])
            return func(*args, **(kwargs or {}))

    with Seeing():
        torch.ones(2).exp()
    assert seen == ["ones", "exp"]


def test_leaves_of_nested_values_come_in_order():
    from torch.utils._pytree import tree_leaves

    assert tree_leaves({"a": (1, [2]), "b": {"c": 3}}) == [1, 2, 3]


def test_breaks_of_compiling_are_explained():
    """`compiling.report` says in how many pieces a graph is compiled, and reads file, line and function of a break."""

    def broken(x):
        y = x + 1
        if y.sum() > 0:
            y = y * 2
        return y

    found = torch._dynamo.explain(broken)(torch.ones(2))
    assert found.graph_count == 2
    (reason,) = found.break_reasons
    assert reason.reason
    assert (reason.user_stack[-1].filename, reason.user_stack[-1].name) == (__file__, "broken")
    assert reason.user_stack[-1].lineno > 0
    assert logging.getLogger("torch._dynamo").name == "torch._dynamo"


def test_truncated_values_are_drawn_by_one_function():
    """`fake_values` replaces it, because it looks at the values."""
    drawn = []
    before = torch.nn.init._no_grad_trunc_normal_
    try:
        torch.nn.init._no_grad_trunc_normal_ = lambda tensor, *args, **kwargs: drawn.append(tensor) or tensor
        torch.nn.init.trunc_normal_(torch.empty(2))
    finally:
        torch.nn.init._no_grad_trunc_normal_ = before
    assert len(drawn) == 1
