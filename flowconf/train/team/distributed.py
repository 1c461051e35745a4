"""The processes that train one model together: ranks, shares of each batch, and communication.

A single process is a `Team` of size 1, whose methods do not communicate. In a team, all processes have the same weights
at every step, run the same number of steps, and compute the same metrics, so decisions that follow from these (the best
weights, early stopping) need no communication. Only rank 0 writes files and prints.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from flowconf.graph.graph import Graph
from flowconf.language.config import Config
from flowconf.report import ConfigError, shell_word
from flowconf.train.objective.terms import Average, Term
from flowconf.train.precision import devices_of
from flowconf.train.seeds import random_state, restore_random_state
from flowconf.train.team.shares import RowShares, Stopwatch, shared_term
from flowconf.train.team.watch import Watch

if TYPE_CHECKING:
    from flowconf.train.runs.saved import SavedShares
    from flowconf.train.team.sharded_view import Whole

T = TypeVar("T")
AFTER_GLOO = timedelta(minutes=2)
"""How much later NCCL times out: it ends the process, and gloo raises, so that the one that is silent can be named."""

_store: Store | None = None
_lasting: Store | None = None
"""The key-value stores of a team: `_store` of the current processes, `_lasting` also of those that replace them."""


class Team:
    """A team of processes, from the perspective of one of them."""

    def __init__(
        self,
        device: torch.device,
        rank: int = 0,
        size: int = 1,
        shares: Sequence[float] | None = None,
        measures: bool = False,
    ) -> None:
        self.device = device
        self.rank = rank
        self.size = size
        self.shares = RowShares(tuple(shares or [1.0] * size))
        self.stopwatch = Stopwatch(self.shares, self.gather, device) if measures and size > 1 else None
        self.whole: Whole | None = None
        """The graph, if its weights are sharded."""
        self.parent = os.getppid() if is_member() else None
        """The process that monitors the team, which stops without it."""
        self.idle = False
        """Whether this process has no rows of the current batch."""
        self._refusing = ExitStack()
        """Hooks on the parameters that the current view leaves out."""

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes files and prints."""
        return self.rank == 0

    # computation

    def part(self, rows: Tensor, number: int) -> tuple[Tensor, bool]:
        """This process's rows of the global batch `number`, and whether they have any weight.

        A process without rows computes the first row with zero weight.
        """
        if self.size == 1:
            return rows, True
        own = self.shares.part(rows, number, self.rank)
        return (own, True) if len(own) else (rows[:1], False)

    def mine(self, number: int) -> bool:
        """Whether this process computes batch `number` of an evaluation."""
        return number % self.size == self.rank

    def terms(self, terms: Iterable[Term]) -> list[Term]:
        """The terms of the loss, scaled so that the gradients averaged over the team are those of the global batch."""
        return list(terms) if self.size == 1 else [shared_term(term, self.size, self.add_up) for term in terms]

    def wrap(self, view: nn.Module, used: set[nn.Parameter] | None = None, passes: int = 1) -> nn.Module:
        """`view` with gradients that are averaged over the team in the backward pass.

        `used` are the parameters that get a gradient in every step; None means that they depend on the data, and are
        determined in every step. The gradients of several backward `passes` have to be averaged after the last of them
        (`average_gradients`).
        """
        self._refusing.close()
        if self.stopwatch is not None:
            self.stopwatch.watch(view)
        if self.whole is not None:
            return self.through(view)
        trained = [parameter for parameter in view.parameters() if parameter.requires_grad]
        if self.size == 1 or not trained or passes > 1:
            return view
        if used is not None:
            left_out = [name for name, parameter in view.named_parameters() if parameter not in used]
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(view, left_out)  # type: ignore[no-untyped-call]
            for parameter in trained:
                if parameter not in used:
                    self._refusing.enter_context(parameter.register_post_accumulate_grad_hook(_never))  # type: ignore[no-untyped-call]
        wrapped = DistributedDataParallel(
            view,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            find_unused_parameters=used is None,
        )
        wrapped.broadcast_buffers = False  # `equalize` synchronizes them
        return wrapped

    def shard(self, graph: Graph, config: Config) -> None:
        """Shard the weights of `graph` over the processes, on their devices."""
        from flowconf.train.team.sharding import shard

        self.whole = shard(graph, self.device, self.size, config.training.trainer.precision)

    def through(self, view: nn.Module) -> nn.Module:
        """`view` as a callable that gathers its weights while it runs, if they are sharded."""
        if self.whole is None:
            return view
        from flowconf.train.team.sharded_view import ShardedView

        return ShardedView(self.whole, view)

    def averages_after(self, passes: int) -> bool:
        """Whether the gradients of `passes` backward passes have to be averaged with `average_gradients`."""
        return self.size > 1 and self.whole is None and passes > 1

    def average_gradients(self, trained: Sequence[nn.Parameter], used: set[nn.Parameter] | None) -> None:
        """Average the accumulated gradients over the team; `used` is as in `wrap`."""
        if used is not None:
            given = [parameter for parameter in trained if parameter in used]
        else:
            here = torch.tensor([float(parameter.grad is not None) for parameter in trained])  # no device is asked
            found = self.add_up(here).tolist()
            given = [parameter for parameter, processes in zip(trained, found, strict=True) if processes]
        grads = [torch.zeros_like(each) if each.grad is None else each.grad for each in given]
        whole = self.average(torch.cat([grad.flatten() for grad in grads])) if grads else torch.zeros(0)
        parts = torch.split(whole, [grad.numel() for grad in grads])
        for parameter, grad, part in zip(given, grads, parts, strict=True):
            parameter.grad = grad.copy_(part.view_as(grad))

    def holding(self, view: Callable[..., Any]) -> AbstractContextManager[None]:
        """A block whose backward passes only accumulate local gradients; the next one outside averages them."""
        wrapped = getattr(view, "_orig_mod", view)  # without the wrapper of torch.compile
        if isinstance(wrapped, DistributedDataParallel):
            found: AbstractContextManager[None] = wrapped.no_sync()
            return found
        return nullcontext()

    # communication

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def average(self, tensor: Tensor) -> Tensor:
        """The mean over all processes, in place."""
        return self.add_up(tensor).div_(self.size) if self.size > 1 else tensor

    def agree(self, wish: bool) -> bool:
        """Whether `wish` is true in any process. Collective."""
        if self.size == 1:
            return wish
        return bool(self.add_up(torch.tensor(int(wish), dtype=torch.int32)))

    def gather(self, value: T) -> list[T]:
        """The picklable value of every process, ordered by rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def from_first(self, make: Callable[[], T]) -> T:
        """The result of `make`, which is called only in rank 0 and broadcast. The value must be picklable."""
        if self.size == 1:
            return make()
        held: list[Any] = [make() if self.first else None]
        dist.broadcast_object_list(held, device=torch.device("cpu"))
        found: T = held[0]
        return found

    def wait(self) -> None:
        """Wait until all processes get here."""
        self.agree(False)

    def equalize(self, module: nn.Module) -> None:
        """Synchronize the buffers: running statistics are averaged, others are broadcast from rank 0."""
        if self.size == 1:
            return
        for name, buffer in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                self.average(buffer)
            else:
                dist.broadcast(buffer, 0)

    def pool(self, averages: Iterable[Average]) -> None:
        """Reduce the means of each process's batches to means over all batches: sums and weights are added up."""
        pooled = list(averages)
        if self.size == 1 or not pooled:
            return
        zero = torch.zeros((), dtype=torch.float64, device=self.device)
        sums = [zero if part is None else part for average in pooled for part in (average.total, average.count)]
        added = self.add_up(torch.stack(sums)).view(-1, 2)
        for average, (total, count) in zip(pooled, added, strict=True):
            average.total, average.count = total, count

    def random_states(self) -> dict[str, Tensor]:
        """The random state of every process, as `RANK/GENERATOR`, for a checkpoint. Collective."""
        states = self.gather(random_state(self.device))
        return {f"{rank}/{name}": state for rank, own in enumerate(states) for name, state in own.items()}

    def restore_random(self, states: Mapping[str, Tensor]) -> None:
        """Restore the random state of this process; one that was not there before keeps its own."""
        mine = f"{self.rank}/"
        own = {name.removeprefix(mine): state for name, state in states.items() if name.startswith(mine)}
        if own or self.first:
            restore_random_state(own, self.device)

    def restore_shares(self, saved: SavedShares | None) -> None:
        """Restore measured shares, if the config still uses `shares: auto`."""
        if saved is not None and self.stopwatch is not None:
            self.shares.restore(saved)


def _never(parameter: Tensor) -> None:
    shape = list(parameter.shape)
    raise RuntimeError(f"a parameter of shape {shape} got a gradient, but was unused when the graph was traced")


def is_member() -> bool:
    """Whether this process was started as one of several, by torchrun or by `flowconf train`."""
    return "TORCHELASTIC_RUN_ID" in os.environ and "RANK" in os.environ


def restarts() -> int:
    """How often the processes of this team have been restarted."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def most_restarts() -> int:
    """The maximum number of restarts."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))


@contextmanager
def joined(config: Config) -> Iterator[Team]:
    """Within the block, this process has joined its team, which has no device yet; a single process is a team of one.

    gloo is used for CPU tensors, NCCL for CUDA tensors. Raises `RunError` if another process does not respond for
    `trainer.timeout` seconds.
    """
    global _store, _lasting
    if not is_member() or dist.is_initialized():
        yield Team(torch.device("cpu"))
        return
    seconds = config.training.trainer.timeout
    timeout = timedelta(seconds=seconds)
    store, rank, size = next(rendezvous("env://", timeout=timeout))
    _lasting = store
    _store = PrefixStore(f"flowconf/{restarts()}", store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    last = timeout + AFTER_GLOO
    dist.init_process_group(backend, store=PrefixStore("group", _store), rank=rank, world_size=size, timeout=last)
    dist.group.WORLD._get_backend(torch.device("cpu"))._set_default_timeout(timeout)  # type: ignore[union-attr]
    watch = Watch(_store, rank, size, seconds)
    try:
        yield Team(torch.device("cpu"), rank, size)
    except RuntimeError as problem:
        found = watch.explained(problem, _command())
        if found is None:
            raise
        raise found from problem
    finally:
        watch.close()
    # Not after an error: the others may be blocked in a collective, which fails when this process exits.
    dist.destroy_process_group()


def team_for(config: Config, member: Team) -> Team:
    """The team of `member`, with the devices and shares of a config.

    Raises `ConfigError` if the number of processes does not match the config, `MachineError` for missing devices.
    """
    trainer = config.training.trainer
    devices = devices_of(config)
    local = int(os.environ["LOCAL_RANK"]) if is_member() else 0
    if is_member():
        there = int(os.environ["LOCAL_WORLD_SIZE"])
        if trainer.devices in ("auto", "cpu") and devices == [torch.device("cpu")]:
            devices *= there
        if len(devices) < there or (trainer.devices != "auto" and len(devices) != there):
            message = f"`trainer.devices` requires {len(devices)} processes per machine, got {there}"
            raise ConfigError(config.diagnostic("FC0123", message, ("trainer", "devices")))
    given = trainer.shares
    if isinstance(given, list) and len(given) != member.size:
        message = f"`trainer.shares` has {len(given)} shares, but there are {member.size} processes"
        raise ConfigError(config.diagnostic("FC0123", message, ("trainer", "shares")))
    shares = given if isinstance(given, list) else None
    return Team(devices[local], member.rank, member.size, shares, measures=given == "auto")


def note_run(folder: Path) -> None:
    """Record the run that restarted processes have to resume."""
    if _lasting is not None:
        _lasting.set("flowconf/run", str(folder))


def noted_run() -> Path | None:
    """The run that was started before this restart, None if there is none."""
    if _lasting is None or not restarts() or not _lasting.check(["flowconf/run"]):
        return None
    return Path(_lasting.get("flowconf/run").decode())


def _command() -> str | None:
    """The command that resumes the run of this team; None if it has none yet."""
    if _lasting is None or not _lasting.check(["flowconf/run"]):
        return None
    return f"flowconf train --resume {shell_word(_lasting.get('flowconf/run').decode())}"


def speaks_first() -> bool:
    """Whether this process is the first of its team to report a failure; the others do not report theirs."""
    if not is_member():
        return True
    if _store is None:
        return os.environ["RANK"] == "0"
    try:
        return bool(_store.add("failures", 1) == 1)
    except (RuntimeError, OSError):
        return os.environ["RANK"] == "0"


def lost_contact(error: BaseException) -> bool:
    """Whether an exception only means that another process has exited."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error)
    signs = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL communicator was aborted")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)
