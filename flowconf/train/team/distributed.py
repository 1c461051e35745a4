"""The processes that train one model together: who they are, what each computes, and what they agree on.

A process that trains alone is a `Team` of one, whose every method is free of communication. In a team all processes
hold the same weights at every step, take the same number of steps, and see the same metrics, so that whatever follows
from these (the best weights, an early end) needs no further word. The first process alone writes and speaks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
from flowconf.report import ConfigError, Diagnostic
from flowconf.train.objective.terms import Average, Term
from flowconf.train.precision import pick_devices
from flowconf.train.team.shares import RowShares, Stopwatch, shared_term

if TYPE_CHECKING:
    from flowconf.train.runs.saved import SavedShares
    from flowconf.train.team.sharding import Whole

T = TypeVar("T")

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others before it gives up."""

_store: Store | None = None
_lasting: Store | None = None
"""What the processes of a team know of each other: until they end, and beyond, for those that take their places."""


class Team:
    """Processes that train together, as one of them sees it."""

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
        """The graph, when each process holds a part of its weights."""
        self.parent = os.getppid() if is_member() else None
        """The process that watches over the team, without which none of it goes on."""
        self.idle = False
        """Whether this process has no row of the batch that is being computed."""

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    # what each one computes

    def part(self, rows: Tensor, number: int) -> tuple[Tensor, bool]:
        """This process's rows of the global batch `number`, and whether they count.

        A process for which there is no row computes the first one and counts nothing.
        """
        if self.size == 1:
            return rows, True
        own = self.shares.part(rows, number, self.rank)
        return (own, True) if len(own) else (rows[:1], False)

    def mine(self, number: int) -> bool:
        """Whether batch `number` of an evaluation is this process's to compute."""
        return number % self.size == self.rank

    def terms(self, terms: Iterable[Term]) -> list[Term]:
        """The terms of the loss so that their gradients, averaged over the team, are those of the global batch."""
        return list(terms) if self.size == 1 else [shared_term(term, self.size, self.add_up) for term in terms]

    def wrap(self, view: nn.Module, used: set[nn.Parameter] | None = None, passes: int = 1) -> nn.Module:
        """`view` with gradients that are averaged over the team in the backward pass.

        `used` are the parameters that get a gradient in every step, when that is known; None means that it depends on
        the data, and is then looked for in every step. What several backward `passes` add up has to be averaged after
        them (`average_gradients`).
        """
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
                    parameter.register_post_accumulate_grad_hook(_never)  # type: ignore[no-untyped-call]
        wrapped = DistributedDataParallel(
            view,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            find_unused_parameters=used is None,
        )
        wrapped.broadcast_buffers = False  # `equalize` is for them
        return wrapped

    def shard(self, graph: Graph, config: Config) -> None:
        """Divide the weights of `graph` over the processes, on their devices."""
        from flowconf.train.team.sharding import shard

        self.whole = shard(graph, self.device, self.size, config.training.trainer.precision)

    def through(self, view: nn.Module) -> nn.Module:
        """`view` as it can be called: with its weights put together meanwhile, where they are divided."""
        if self.whole is None:
            return view
        from flowconf.train.team.sharding import ShardedView

        return ShardedView(self.whole, view)

    def averages_after(self, passes: int) -> bool:
        """Whether gradients of so many backward passes have to be averaged by `average_gradients`."""
        return self.size > 1 and self.whole is None and passes > 1

    def average_gradients(self, trained: Sequence[nn.Parameter], used: set[nn.Parameter] | None) -> None:
        """Average over the team what backward passes have left in this process; `used` is as in `wrap`."""
        if used is not None:
            given = [parameter for parameter in trained if parameter in used]
        else:
            here = torch.tensor([float(parameter.grad is not None) for parameter in trained], device=self.device)
            found = self.add_up(here).tolist()
            given = [parameter for parameter, processes in zip(trained, found, strict=True) if processes]
        grads = [torch.zeros_like(each) if each.grad is None else each.grad for each in given]
        whole = self.average(torch.cat([grad.flatten() for grad in grads])) if grads else torch.zeros(0)
        parts = torch.split(whole, [grad.numel() for grad in grads])
        for parameter, grad, part in zip(given, grads, parts, strict=True):
            parameter.grad = grad.copy_(part.view_as(grad))

    def holding(self, view: Callable[..., Any]) -> AbstractContextManager[None]:
        """A block whose backward passes only add to this process's gradients; the next one outside averages them."""
        wrapped = getattr(view, "_orig_mod", view)  # inside of what torch.compile gives
        if isinstance(wrapped, DistributedDataParallel):
            found: AbstractContextManager[None] = wrapped.no_sync()
            return found
        return nullcontext()

    # what they agree on

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def average(self, tensor: Tensor) -> Tensor:
        """The mean over all processes, in place."""
        return self.add_up(tensor).div_(self.size) if self.size > 1 else tensor

    def agree(self, wish: bool) -> bool:
        """Whether any process wishes it. All of them have to ask."""
        if self.size == 1:
            return wish
        return bool(self.add_up(torch.tensor(int(wish), dtype=torch.int32)))

    def gather(self, value: T) -> list[T]:
        """The plain value of every process, in their order."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def told(self, make: Callable[[], T]) -> T:
        """What `make` gives in the first process; it is called nowhere else. The value must be picklable."""
        if self.size == 1:
            return make()
        held: list[Any] = [make() if self.first else None]
        dist.broadcast_object_list(held, device=torch.device("cpu"))
        found: T = held[0]
        return found

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier(device_ids=[self.device.index] if self.device.type == "cuda" else None)

    def equalize(self, module: nn.Module) -> None:
        """Give all processes the same values of what is not trained: the mean of statistics, else the first one's."""
        if self.size == 1:
            return
        for name, buffer in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                self.average(buffer)
            else:
                dist.broadcast(buffer, 0)

    def pool(self, averages: Iterable[Average]) -> None:
        """Make means over one process's batches means over everyone's: their sums and weights are added up."""
        pooled = list(averages)
        if self.size == 1 or not pooled:
            return
        zero = torch.zeros((), dtype=torch.float64, device=self.device)
        sums = [zero if part is None else part for average in pooled for part in (average.total, average.count)]
        added = self.add_up(torch.stack(sums)).view(-1, 2)
        for average, (total, count) in zip(pooled, added, strict=True):
            average.total, average.count = total, count

    def random_states(self) -> dict[str, Tensor]:
        """The random numbers of the processes after the first, by name; they belong into a checkpoint."""
        if self.size == 1:
            return {}
        own = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            own["cuda"] = torch.cuda.get_rng_state(self.device)
        states = self.gather(own)
        return {
            f"random/{rank}/{kind}": state for rank, held in enumerate(states) if rank for kind, state in held.items()
        }

    def restore_shares(self, saved: SavedShares | None) -> None:
        """Go on with the shares that were measured, where the config still leaves them to be."""
        if saved is not None and self.stopwatch is not None:
            self.shares.restore(saved)

    def restore_random(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on with this process's own random numbers, as far as `tensors` has them."""
        mine = f"random/{self.rank}/"
        if f"{mine}cpu" in tensors:
            torch.set_rng_state(tensors[f"{mine}cpu"])
        if f"{mine}cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors[f"{mine}cuda"], self.device)


def _never(parameter: Tensor) -> None:
    shape = list(parameter.shape)
    raise RuntimeError(f"a parameter of shape {shape} got a gradient, and the first look at the graph showed none")


def is_member() -> bool:
    """Whether this process was started as one of several, by torchrun or by `flowconf train`."""
    return "TORCHELASTIC_RUN_ID" in os.environ and "RANK" in os.environ


def restarts() -> int:
    """How often the processes of this team have been started anew."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def most_restarts() -> int:
    """How often they can be."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))


@contextmanager
def joined() -> Iterator[Team]:
    """Within the block this process is one of its team, which has no device yet; alone, it is a team of one.

    gloo carries what is on the CPU, NCCL what is on CUDA devices.
    """
    global _store, _lasting
    if not is_member() or dist.is_initialized():
        yield Team(torch.device("cpu"))
        return
    store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    _lasting = store
    _store = PrefixStore(f"flowconf/{restarts()}", store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=PrefixStore("group", _store), rank=rank, world_size=size, timeout=PATIENCE)
    yield Team(torch.device("cpu"), rank, size)
    # Not after an error: the others may be in the middle of something, and the end of this process ends it for them.
    dist.destroy_process_group()


def team_for(config: Config, member: Team) -> Team:
    """The team that `member` is of, on the devices and with the shares that a config asks for.

    Raises `ConfigError` when it asks for another number of processes than there are, `MachineError` for devices.
    """
    trainer = config.training.trainer
    place = config.composition.document.origins.value
    devices = pick_devices(trainer.devices, place(("trainer", "devices")))
    local = int(os.environ["LOCAL_RANK"]) if is_member() else 0
    if is_member():
        there = int(os.environ["LOCAL_WORLD_SIZE"])
        if trainer.devices in ("auto", "cpu") and len(devices) == 1:
            devices *= there
        if len(devices) < there or (trainer.devices != "auto" and len(devices) != there):
            message = f"`trainer.devices` asks for {len(devices)} processes on a machine, and {there} were started"
            raise ConfigError(Diagnostic("FC0123", message, place(("trainer", "devices")), "trainer.devices"))
    given = trainer.shares
    if isinstance(given, list) and len(given) != member.size:
        message = f"`trainer.shares` has {len(given)} shares, and {member.size} processes train"
        raise ConfigError(Diagnostic("FC0123", message, place(("trainer", "shares")), "trainer.shares"))
    shares = given if isinstance(given, list) else None
    return Team(devices[local], member.rank, member.size, shares, measures=given == "auto")


def note_run(folder: Path) -> None:
    """Let processes that are started in the place of these know which run they are to go on with."""
    if _lasting is not None:
        _lasting.set("flowconf/run", str(folder))


def noted_run() -> Path | None:
    """The run that processes before these have begun, None when they have not."""
    if _lasting is None or not restarts() or not _lasting.check(["flowconf/run"]):
        return None
    return Path(_lasting.get("flowconf/run").decode())


def speaks_first() -> bool:
    """Whether this process is the first of its team to tell of a failure; the others then keep silent."""
    if not is_member():
        return True
    if _store is None:
        return os.environ["RANK"] == "0"
    try:
        return bool(_store.add("failures", 1) == 1)
    except (RuntimeError, OSError):
        return os.environ["RANK"] == "0"


def lost_contact(error: BaseException) -> bool:
    """Whether an exception only says that another process is gone."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error)
    signs = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL communicator was aborted")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)
