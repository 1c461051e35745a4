"""What architectures need beyond torch.nn, against modules written by hand: joins, samples, sparse mixtures."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import flowconf
from flowconf.graph.runtime import top_experts
from flowconf.train.objective.losses import gaussian_kl, load_balance
from tests.graph.conftest import document, rows


def test_concat_of_any_number(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.out = nn.Linear(6, 2), nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(15, 1)

        def forward(self, x):
            a = self.a(x)
            b = self.b(a)
            c = self.c(b)
            return self.out(torch.cat([c, x, a, b], 1))

    flow = {
        "a": "Linear(6, 2)",
        "b": "Linear(2, 3)",
        "c": "Linear(3, 4)",
        "all": {"through": "Concat", "using": ["x", "a", "b"]},
        "out": "Linear(_, 1)",
    }
    same(document(flow), Twin, rows(6))


def test_concat_names_the_value_that_does_not_fit_and_needs_one():
    flow = {
        "a": "Linear(6, 2)",
        "b": "Unflatten(1, [2, 1])",
        "all": {"through": "Concat", "from": "x", "using": ["a", "b"]},
    }
    (found,) = flowconf.check(document(flow))
    assert "`b` must have 2 dimensions like the stream, got 3" in found.message
    (found,) = flowconf.check(document({"all": "Concat"}))
    assert "there is nothing to concatenate" in found.message


def test_detach_stops_gradients():
    graph = flowconf.build(document({"a": "Linear(6, 6)", "cut": "Detach", "b": "Linear(6, 6)"}))
    graph(torch.randn(2, 6)).sum().backward()
    assert graph.a.weight.grad is None
    assert graph.b.weight.grad is not None


def test_a_variational_autoencoder_equals_a_hand_written_one(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode, self.decode = nn.Linear(6, 8), nn.Linear(4, 6)

        def forward(self, x):
            mean, log_variance = self.encode(x).chunk(2, -1)
            sample = mean + (0.5 * log_variance).exp() * torch.randn_like(mean) if self.training else mean
            return {"out": self.decode(sample), "mean": mean, "log_variance": log_variance}

    flow = {
        "encode": "Linear(6, 8)",
        "latent": "Gaussian",
        "decode": {"from": "latent.sample", "through": "Linear(4, 6)"},
    }
    outputs = {"out": "decode", "mean": "latent.mean", "log_variance": "latent.log_variance"}
    same(document(flow, outputs=outputs), Twin, rows(6))


def test_gaussian_kl_is_the_divergence_of_torch():
    mean, log_variance = torch.randn(5, 3, 4), torch.randn(5, 3, 4)
    mine = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    wanted = torch.distributions.kl_divergence(mine, torch.distributions.Normal(0.0, 1.0)).sum((1, 2))
    torch.testing.assert_close(gaussian_kl(mean, log_variance), wanted)


def test_an_odd_gaussian_is_refused():
    (found,) = flowconf.check(document({"a": "Linear(6, 7)", "latent": "Gaussian"}))
    assert "the size of dimension -1, means and log-variances, is odd: 7" in found.message


MIXTURE = {
    "experts": {
        "gate": {
            "one": "Linear(6, 6)",
            "two": "Linear(6, 6) >> Tanh",
            "three": {"flow": {"a": "Linear(6, 6)", "b": "Tanh"}},
        },
        "router": "TopRouter(6, 3, k=2)",
        "top": 2,
    }
}


class Sparse(nn.Module):
    """A sparse mixture as it is written by hand: each expert on the rows that chose it."""

    class Three(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Tanh()

        def forward(self, x):
            return self.b(self.a(x))

    class Router(nn.Module):
        def __init__(self):
            super().__init__()
            self.score = nn.Linear(6, 3)

    def __init__(self):
        super().__init__()
        parts = {"one": nn.Linear(6, 6), "two": nn.Sequential(nn.Linear(6, 6), nn.Tanh()), "three": Sparse.Three()}
        self.experts = nn.ModuleDict({**parts, "router": Sparse.Router()})

    def forward(self, x):
        kept = self.experts["router"].score(x).topk(2, -1)
        shares = torch.softmax(kept.values, -1)
        total = torch.zeros_like(x)
        for number, name in enumerate(("one", "two", "three")):
            found = kept.indices == number
            chosen = found.any(-1)
            if chosen.any():
                weight = (shares * found).sum(-1)[chosen].unsqueeze(-1)
                total[chosen] = total[chosen] + weight * self.experts[name](x[chosen])
        return total


@pytest.mark.parametrize("size", [(6,), (5, 6)])
def test_a_sparse_mixture_equals_a_hand_written_one(same, size):
    same(document(MIXTURE, {"x": ["B", *size]}), Sparse, rows(*size))


def test_only_chosen_experts_run_and_only_on_their_rows():
    seen = []

    def expert(number):
        def run(x):
            seen.append((number, len(x)))
            return x * number

        return run

    weights = torch.tensor([[0.1, 0.0, 0.9], [0.7, 0.2, 0.1], [0.6, 0.0, 0.4]])
    out = top_experts(torch.ones(3, 2), weights, 1, [expert(1), expert(2), expert(3)], ["a", "b", "c"])
    assert seen == [(1, 2), (3, 1)]
    torch.testing.assert_close(out, torch.tensor([[2.7, 2.7], [0.7, 0.7], [0.6, 0.6]]))


def test_all_experts_are_the_dense_gate():
    dense = {"experts": {**MIXTURE["experts"], "router": "SoftmaxRouter(6, 3)"}}
    del dense["experts"]["top"]
    one = flowconf.build(document(dense))
    two = flowconf.build(document({"experts": {**dense["experts"], "top": 3}}))
    two.load_state_dict(one.state_dict())
    x = torch.randn(7, 6)
    torch.testing.assert_close(two(x), one(x))


def test_load_balance_is_1_for_even_use_and_the_number_of_experts_for_one():
    even = torch.eye(4).repeat(3, 1)
    assert float(load_balance(even).mean()) == 1
    assert float(load_balance(even[:1].repeat(12, 1)).mean()) == 4
    weights = torch.randn(6, 5, 4).softmax(-1)
    share = torch.nn.functional.one_hot(weights.argmax(-1), 4).float().mean((0, 1))
    wanted = 4 * (share * weights.mean((0, 1))).sum()
    torch.testing.assert_close(load_balance(weights).mean(), wanted)
    assert load_balance(weights, k=2).shape == (6, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top": 4}, "`top` must be at most 3, the number of experts, got `4`"),
        ({"top": 0}, "`top` must be an integer of at least 1, got `0`"),
        ({"router": "TopRouter(6, 3, k=4)"}, "`k` must be from 1 to 3"),
        ({"router": "TopRouter(6, 2, k=2)"}, "must return one weight for each of 3 experts"),
    ],
)
def test_wrong_mixtures_are_refused(change, message):
    (found,) = flowconf.check(document({"experts": {**MIXTURE["experts"], **change}}))
    assert message in found.message


def test_an_expert_with_top_has_no_value():
    (found,) = flowconf.check(document(MIXTURE, outputs={"one": "experts.one"}))
    assert "`experts.one` has no value: a gate with `top` runs an expert only for the rows" in found.message
    graph = flowconf.build(document(MIXTURE, outputs={"out": "experts", "weights": "experts.router"}))
    assert graph(torch.randn(2, 6))["weights"].shape == (2, 3)
