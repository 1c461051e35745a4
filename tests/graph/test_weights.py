"""Weights in and out of any subtree: every tensor is accounted for, nothing is half loaded, no pickle runs."""

from __future__ import annotations

import hashlib
import json
import os
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import flowconf
from flowconf import ConfigError, PathError
from flowconf.graph.weights.structural_hash import structural_hash

PART = {
    "params": {"width": 4},
    "flow": {"a": "Linear(6, width)", "norm": "BatchNorm1d(width)", "b": "Linear(width, 6)"},
}
WORD = {
    "label": "word",
    "inputs": {"x": ["B", 6]},
    "flow": {"stem": "Linear(6, 6)", "letter": {"graph": PART}, "head": "Linear(6, 2)"},
}


def letter(**more):
    return flowconf.build({"label": "letter", "inputs": {"x": ["B", 6]}, **PART, **more})


def word():
    return flowconf.build(WORD)


def same_tensors(one, other):
    a, b = one.state_dict(), other.state_dict()
    assert list(a) == list(b)
    return all(torch.equal(a[name], b[name]) for name in a)


def codes(raised):
    return [d.code for d in raised.value.diagnostics]


def snapshot(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def unchanged(module, before):
    return all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_a_round_trip_is_bit_identical(tmp_path):
    one, other = word(), word()
    one(torch.randn(8, 6))  # statistics move
    one.save(tmp_path / "w.safetensors")
    report = other.load(tmp_path / "w.safetensors")
    assert same_tensors(one, other)
    assert sorted(report.loaded) == sorted(one.state_dict())
    assert (report.missing, report.unused, report.mismatched, report.cast) == ([], [], [], [])
    assert other.letter.norm.num_batches_tracked.item() == 1


def test_a_subtree_is_saved_in_its_own_namespace_and_loaded_anywhere(tmp_path):
    whole, alone = word(), letter()
    whole.save(tmp_path / "letter.safetensors", at="letter")
    assert sorted(load_file(tmp_path / "letter.safetensors")) == sorted(alone.state_dict())
    alone.load(tmp_path / "letter.safetensors")
    assert same_tensors(whole.letter, alone)
    other = word()
    stem = other.stem.weight.clone()
    report = other.load(tmp_path / "letter.safetensors", at="letter")
    assert same_tensors(whole.letter, other.letter)
    assert torch.equal(other.stem.weight, stem)
    assert report.at == "letter"


def test_only_a_subtree_of_the_source(tmp_path):
    whole, alone = word(), letter()
    whole.save(tmp_path / "w.safetensors")
    report = alone.load(tmp_path / "w.safetensors", source_at="letter", unused="error")
    assert same_tensors(whole.letter, alone)
    assert report.unused == []
    leaf = word()
    leaf.load(tmp_path / "w.safetensors", at="letter.a", source_at="letter.a")
    assert torch.equal(leaf.letter.a.weight, whole.letter.a.weight)


def test_a_rename_that_would_match_is_named_and_one_that_matches_nothing_refused(tmp_path):
    letter().save(tmp_path / "w.safetensors")
    old = {name.replace("norm.", "batch.1."): tensor for name, tensor in load_file(tmp_path / "w.safetensors").items()}
    save_file(old, tmp_path / "old.safetensors")
    with pytest.raises(ConfigError) as raised:
        letter().load(tmp_path / "old.safetensors")
    assert [(d.code, d.help) for d in raised.value.diagnostics] == [
        ("FC0303", 'add `rename={"batch.1": "norm"}` (5 of 5 would match)')
    ]
    with pytest.raises(ConfigError) as raised:
        letter().load(tmp_path / "old.safetensors", rename={"bacth.1": "norm"})
    assert [str(d.message) for d in raised.value.diagnostics] == [
        "no tensor in the file has the prefix `bacth.1` of `rename`"
    ]
    letter().load(tmp_path / "old.safetensors", rename={"batch.1": "norm"}, unused="error")


def test_rename_maps_old_prefixes_to_new_ones(tmp_path):
    old = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": {"enc": {"graph": PART}, "enc2": "Linear(6, 6)"}})
    new = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": {"encoder": {"graph": PART}, "enc2": "Linear(6, 6)"}})
    old.save(tmp_path / "w.safetensors")
    new.load(tmp_path / "w.safetensors", rename={"enc": "encoder"}, unused="error")
    assert same_tensors(old.enc, new.encoder)
    assert torch.equal(old.enc2.weight, new.enc2.weight)
    alone = letter()
    alone.load(tmp_path / "w.safetensors", rename={"enc": ""}, unused="ignore")
    assert same_tensors(old.enc, alone)


LAYERS = {"inputs": {"x": ["B", 4]}, "flow": {"block": {"also": "Linear(4, 4) >> Tanh", "repeat": 3}}}


def test_a_star_in_rename_is_any_one_name(tmp_path):
    graph = flowconf.build(LAYERS)
    ours = graph.state_dict()
    theirs = {
        name.replace(f"block.{i}.0", f"layer.{i}.out.dense"): ours[name]
        for i in range(3)
        for name in ours
        if f"k.{i}" in name
    }
    save_file(theirs, tmp_path / "theirs.safetensors")
    other = flowconf.build(LAYERS)
    other.load(tmp_path / "theirs.safetensors", rename={"layer.*.out.dense": "block.*.0"}, unused="error")
    assert same_tensors(graph, other)
    theirs["block.0.0.bias"] = theirs.pop("layer.0.out.dense.bias")
    save_file(theirs, tmp_path / "near.safetensors")
    with pytest.raises(ConfigError) as raised:
        other.load(tmp_path / "near.safetensors", unused="ignore")
    assert [d.help for d in raised.value.diagnostics] == [
        'add `rename={"layer.*.out.dense": "block.*.0"}` (5 of 5 would match)'
    ]


def test_a_renamed_tensor_replaces_one_of_that_name_which_is_not_used(tmp_path):
    """A file with a student and its teacher: the student is loaded as the teacher."""
    pair = {"student.weight": torch.ones(2, 2), "teacher.weight": torch.zeros(2, 2)}
    save_file(pair, tmp_path / "w.safetensors")
    document = {"inputs": {"x": ["B", 2]}, "flow": {"%s": "Linear(2, 2, bias=false)"}}
    for one, other in (("student", "teacher"), ("teacher", "student")):
        graph = flowconf.build({**document, "flow": {other: document["flow"]["%s"]}})
        report = graph.load(tmp_path / "w.safetensors", rename={one: other})
        assert torch.equal(graph.module_at(other).weight, pair[f"{one}.weight"])
        assert report.unused == [f"{other}.weight"]


@pytest.mark.parametrize(
    ("rename", "messages"),
    [
        (
            {"a": "x", "b": "x"},
            [
                "`a.weight` and `b.weight` are both renamed to `x.weight`",
                "`a.bias` and `b.bias` are both renamed to `x.bias`",
            ],
        ),
        ({"*": "x.*", "a": "y"}, ["`a` of `rename` has no effect: `*` before it renames the same tensors"]),
        ({"a": "x.*"}, ["`x.*` of `rename` has more `*` than `a`"]),
        ({"a.*.c": "x"}, ["no tensor in the file has the prefix `a.*.c` of `rename`"]),
    ],
)
def test_renames_without_effect_or_with_equal_results_are_refused(tmp_path, rename, messages):
    graph = flowconf.build({"inputs": {"x": ["B", 2]}, "flow": {"a": "Linear(2, 2)", "b": "Linear(2, 2)"}})
    graph.save(tmp_path / "w.safetensors")
    with pytest.raises(ConfigError) as raised:
        graph.load(tmp_path / "w.safetensors", rename=rename, missing="ignore", unused="ignore")
    assert sorted(str(d.message) for d in raised.value.diagnostics) == sorted(messages)
    assert {d.code for d in raised.value.diagnostics} == {"FC0302"}


def test_missing_tensors_are_an_error_by_default_and_change_nothing(tmp_path):
    tensors = letter().state_dict()
    del tensors["b.weight"]
    save_file(tensors, tmp_path / "w.safetensors")
    graph = letter()
    before = snapshot(graph)
    with pytest.raises(ConfigError, match=r"b\.weight") as raised:
        graph.load(tmp_path / "w.safetensors")
    assert codes(raised) == ["FC0303"]
    assert unchanged(graph, before)
    for mode in ("warn", "ignore"):
        report = letter().load(tmp_path / "w.safetensors", missing=mode)
        assert report.missing == ["b.weight"]
        assert "b: 1 missing in the file" in str(report)


def test_unused_tensors_are_reported_by_default_and_refused_on_request(tmp_path):
    save_file({**letter().state_dict(), "extra.weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    report = letter().load(tmp_path / "w.safetensors")
    assert report.unused == ["extra.weight"]
    assert "extra: 1 in the file, not used" in str(report)
    with pytest.raises(ConfigError, match=r"extra\.weight") as raised:
        letter().load(tmp_path / "w.safetensors", unused="error")
    assert codes(raised) == ["FC0304"]


@pytest.mark.parametrize("key", ["missing", "unused"])
def test_an_unknown_mode_is_refused(tmp_path, key):
    letter().save(tmp_path / "w.safetensors")
    with pytest.raises((ConfigError, ValueError)):
        letter().load(tmp_path / "w.safetensors", **{key: "warning"})


def test_nothing_loaded_is_always_an_error_and_names_the_prefix(tmp_path):
    word().save(tmp_path / "w.safetensors")
    graph = letter()
    for mode in ("error", "warn", "ignore"):
        with pytest.raises(ConfigError, match="letter") as raised:
            graph.load(tmp_path / "w.safetensors", missing=mode, unused="ignore")
        assert codes(raised) == ["FC0302"]
        assert raised.value.diagnostics[0].help == 'add `source_at="letter"` (9 of 9 would match)'


def test_nothing_loaded_into_a_deeper_place_names_the_prefix(tmp_path):
    letter().save(tmp_path / "w.safetensors")
    with pytest.raises(ConfigError) as raised:
        word().load(tmp_path / "w.safetensors", missing="ignore")
    assert codes(raised) == ["FC0302"]
    assert "letter" in raised.value.diagnostics[0].help


def test_an_account_by_prefix_covers_both_sides(tmp_path):
    save_file({**letter().state_dict(), "zz.w": torch.zeros(1)}, tmp_path / "w.safetensors")
    report = letter().load(tmp_path / "w.safetensors")
    lines = str(report).splitlines()
    assert lines[0].endswith("9 tensors loaded")
    counted = sum(int(line.split(": ")[1].split()[0]) for line in lines[1:])
    assert counted == len(load_file(tmp_path / "w.safetensors"))


def test_mismatched_shapes_are_an_error_with_both_shapes(tmp_path):
    letter().save(tmp_path / "w.safetensors")
    graph = letter(params={"width": 5})
    before = snapshot(graph)
    with pytest.raises(ConfigError) as raised:
        graph.load(tmp_path / "w.safetensors", missing="ignore", unused="ignore")
    assert set(codes(raised)) == {"FC0305"}
    text = str(raised.value)
    assert "[5, 6]" in text
    assert "[4, 6]" in text
    assert unchanged(graph, before)


def test_dtypes_are_cast_and_reported(tmp_path):
    source = letter()
    halves = {n: t.half() if t.is_floating_point() else t for n, t in source.state_dict().items()}
    save_file(halves, tmp_path / "w.safetensors")
    graph = letter()
    report = graph.load(tmp_path / "w.safetensors")
    assert ("a.weight", "float16", "float32") in report.cast
    assert graph.a.weight.dtype == torch.float32
    assert torch.equal(graph.a.weight, source.a.weight.half().float())
    assert "a.weight: cast from float16 to float32" in str(report)


# files


def test_the_document_and_its_hash_travel_in_the_metadata(tmp_path):
    graph = letter()
    graph.save(tmp_path / "w.safetensors", metadata={"note": "mine"})
    with safe_open(tmp_path / "w.safetensors", "pt") as opened:
        found = opened.metadata()
    assert found["note"] == "mine"
    document = json.loads(found["graph"])
    assert flowconf.plan(document) == graph.plan
    assert found["hash"] == structural_hash(graph.plan)


def test_saving_is_atomic(tmp_path, monkeypatch):
    file = tmp_path / "w.safetensors"
    graph = letter()
    graph.save(file)
    whole = file.read_bytes()

    def fails(*_, **__):
        raise OSError("disk full")

    for name in ("fsync", "replace", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fails)
            try:
                letter().save(file)
            except OSError:
                assert file.read_bytes() == whole
        load_file(file)
    assert [f.name for f in tmp_path.iterdir()] == ["w.safetensors"]


def test_saving_into_a_folder_that_is_not_there_yet(tmp_path):
    letter().save(tmp_path / "new" / "deep" / "w.safetensors")
    assert (tmp_path / "new" / "deep" / "w.safetensors").is_file()


def test_saving_does_not_change_the_graph(tmp_path):
    graph = letter()
    before, training = snapshot(graph), graph.training
    graph.save(tmp_path / "w.safetensors")
    assert unchanged(graph, before)
    assert graph.training == training
    assert all(p.requires_grad for p in graph.parameters())


SHARED = {
    "inputs": {"x": ["B", 6]},
    "flow": {
        "cell": "Linear(6, 6)",
        "l": {"loop": {"flow": {"own": "Linear(6, 6)", "again": {"reuse": "cell"}}}, "times": 2},
        "end": {"reuse": "cell"},
    },
}


def test_shared_modules_are_saved_once(tmp_path):
    one, other = flowconf.build(SHARED), flowconf.build(SHARED)
    one.save(tmp_path / "w.safetensors")
    assert sorted(load_file(tmp_path / "w.safetensors")) == ["cell.bias", "cell.weight", "l.own.bias", "l.own.weight"]
    report = other.load(tmp_path / "w.safetensors", unused="error")
    assert report.missing == []
    x = torch.randn(2, 6)
    assert torch.equal(one(x), other(x))


def test_a_state_dict_of_torch_with_shared_modules_loads_too(tmp_path):
    one, other = flowconf.build(SHARED), flowconf.build(SHARED)
    torch.save(one.state_dict(), tmp_path / "w.pt")
    other.load(tmp_path / "w.pt")
    x = torch.randn(2, 6)
    assert torch.equal(one(x), other(x))


def test_views_of_one_storage_can_be_saved(tmp_path):
    """Tied or sliced tensors are written as what they hold."""
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": {"a": "Linear(6, 6)", "b": "Linear(6, 6)"}})
    graph.b.weight = graph.a.weight
    graph.a.bias = nn.Parameter(torch.arange(12.0)[::2])
    graph.save(tmp_path / "w.safetensors")
    assert load_file(tmp_path / "w.safetensors")["a.bias"].tolist() == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("ending", [".pt", ".pth"])
@pytest.mark.parametrize("wrapped", [None, "state_dict", "model"])
def test_a_torch_file_goes_through_weights_only(tmp_path, ending, wrapped):
    source, graph = letter(), letter()
    state = source.state_dict()
    torch.save({wrapped: state, "epoch": 3} if wrapped else state, tmp_path / f"w{ending}")
    graph.load(tmp_path / f"w{ending}")
    assert same_tensors(source, graph)


class Bomb:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("how", ["pickle", "torch", "legacy"])
def test_a_malicious_pickle_is_refused_and_runs_nothing(tmp_path, how):
    file, trace = tmp_path / "w.pt", tmp_path / "trace"
    content = {"state_dict": letter().state_dict(), "bomb": Bomb(trace)}
    if how == "pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=how == "torch")
    graph = letter()
    before = snapshot(graph)
    with pytest.raises(ConfigError) as raised:
        graph.load(file)
    assert codes(raised) == ["FC0301"]
    assert not trace.exists()
    assert unchanged(graph, before)


def test_a_pickle_under_the_name_of_safetensors_is_refused(tmp_path):
    file, trace = tmp_path / "w.safetensors", tmp_path / "trace"
    file.write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(ConfigError) as raised:
        letter().load(file)
    assert codes(raised) == ["FC0301"]
    assert not trace.exists()


@pytest.mark.parametrize("keep", [0, 4, 40, -1])
def test_a_truncated_file_is_refused(tmp_path, keep):
    file = tmp_path / "w.safetensors"
    letter().save(file)
    file.write_bytes(file.read_bytes()[:keep])
    graph = letter()
    before = snapshot(graph)
    with pytest.raises(ConfigError) as raised:
        graph.load(file)
    assert codes(raised) == ["FC0301"]
    assert unchanged(graph, before)


@pytest.mark.parametrize("name", ["none.safetensors", "weights.bin", "weights.txt"])
def test_a_file_that_is_no_file_of_weights_is_refused(tmp_path, name):
    if not name.startswith("none"):
        (tmp_path / name).write_bytes(b"hello")
    with pytest.raises(ConfigError) as raised:
        letter().load(tmp_path / name)
    assert codes(raised) == ["FC0301"]


def test_sha256_refuses_any_other_file(tmp_path):
    file = tmp_path / "w.safetensors"
    letter().save(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    letter().load(file, sha256=digest)
    with pytest.raises(ConfigError) as raised:
        letter().load(file, sha256="0" * 64)
    assert codes(raised) == ["FC0306"]


def test_a_run_folder_gives_its_best_checkpoint(tmp_path):
    best, last = letter(), letter()
    best.save(tmp_path / "run" / "checkpoints" / "best.safetensors")
    last.save(tmp_path / "run" / "checkpoints" / "last.safetensors")
    (tmp_path / "run" / "run.json").write_text(json.dumps({"status": "finished"}))
    graph = letter()
    graph.load(tmp_path / "run")
    assert same_tensors(graph, best)
    graph.load(tmp_path / "run" / "checkpoints")
    assert same_tensors(graph, best)


def test_a_wrong_target_path_lists_what_is_there(tmp_path):
    letter().save(tmp_path / "w.safetensors")
    with pytest.raises(PathError, match="letter"):
        word().load(tmp_path / "w.safetensors", at="lettr")


# `checkpoint:` in a document


def test_build_loads_what_the_document_names(tmp_path):
    source = letter()
    source.save(tmp_path / "w.safetensors")
    document = {
        "inputs": {"x": ["B", 6]},
        "flow": {"stem": "Linear(6, 6)", "letter": {"graph": PART, "checkpoint": str(tmp_path / "w.safetensors")}},
    }
    assert same_tensors(flowconf.build(document).letter, source)
    assert not same_tensors(flowconf.build(document, weights=False).letter, source)


def test_checkpoint_keys_in_a_document(tmp_path):
    source = word()
    source.save(tmp_path / "w.safetensors")
    key = {"path": str(tmp_path / "w.safetensors"), "at": "letter", "unused": "error"}
    document = {"inputs": {"x": ["B", 6]}, "flow": {"reader": {"graph": PART, "checkpoint": key}}}
    assert same_tensors(flowconf.build(document).reader, source.letter)
    key["sha256"] = "0" * 64
    with pytest.raises(ConfigError) as raised:
        flowconf.build(document)
    assert codes(raised) == ["FC0306"]


def test_an_inner_checkpoint_has_the_last_word(tmp_path):
    outer, inner = word(), letter()
    outer.save(tmp_path / "outer.safetensors")
    inner.save(tmp_path / "inner.safetensors")
    document = {
        "inputs": {"x": ["B", 6]},
        "flow": {
            "all": {
                "graph": {
                    "flow": {
                        **WORD["flow"],
                        "letter": {"graph": PART, "checkpoint": str(tmp_path / "inner.safetensors")},
                    }
                },
                "checkpoint": str(tmp_path / "outer.safetensors"),
            }
        },
    }
    graph = flowconf.build(document)
    assert torch.equal(graph.module_at("all.stem").weight, outer.stem.weight)
    assert same_tensors(graph.module_at("all.letter"), inner)


def test_a_checkpoint_that_does_not_exist_is_found_by_check():
    document = {"flow": {"a": {"through": "Linear(6, 6)", "checkpoint": "nowhere.safetensors"}}}
    assert [d.code for d in flowconf.check(document)] == ["FC0301"]


def test_checkpoint_of_a_branch(tmp_path):
    source = letter()
    source.save(tmp_path / "w.safetensors")
    branch = {"graph": PART, "checkpoint": str(tmp_path / "w.safetensors")}
    flow = {"s": {"split": {"a": branch, "b": "Linear(6, 6)"}, "merge": "add"}}
    graph = flowconf.build({"inputs": {"x": ["B", 6]}, "flow": flow})
    assert same_tensors(graph.module_at("s.a"), source)


def test_checkpoint_of_a_map_body(tmp_path):
    """The design's word reader: the mapped graph has its own source, label and frozen mark."""
    source = letter()
    source.save(tmp_path / "w.safetensors")
    body = {"graph": PART, "label": "letter", "frozen": True, "checkpoint": str(tmp_path / "w.safetensors")}
    flow = {"letters": {"map": body}}
    graph = flowconf.build({"inputs": {"x": ["B", 3, 6]}, "flow": flow})
    assert same_tensors(graph.subgraph("letter"), source)
    assert graph.is_frozen("letter")
    assert "letter.a.weight" in graph.state_dict()


# the structural hash


def hash_of(document):
    return structural_hash(flowconf.plan(document))


ROUTED = {"gate": {"a": "Linear(6, 6)", "b": "Linear(6, 6)"}, "router": "SoftmaxRouter(6, 2)"}
MERGED = {"split": {"a": "Linear(6, 6)", "b": "Linear(6, 6)"}, "merge": "add"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ROUTED, {**ROUTED, "router": "SigmoidRouter(6, 2)"}),
        (MERGED, {**MERGED, "merge": "mul"}),
        ("Conv1d(6, 6, 1)", "Conv1d(6, 6, 1, stride=2)"),
        ({"loop": "Linear(6, 6)", "times": 2}, {"loop": "Linear(6, 6)", "times": 3}),
        ({"through": "Linear(6, 6)", "repeat": 2}, {"through": "Linear(6, 6)", "repeat": 3}),
        ({"also": "GRU(6, 6)", "take": 0}, {"also": "GRU(6, 6)", "take": 1}),
    ],
)
def test_the_hash_tells_structures_apart(one, other):
    assert hash_of({"flow": {"s": one}}) != hash_of({"flow": {"s": other}})


def test_the_hash_says_what_computes_the_same():
    plain = {"inputs": {"x": ["B", 6]}, "flow": {"a": "Linear(6, 6)", "l": {"loop": "Linear(6, 6)", "times": 2}}}
    equal = [
        {**plain, "label": "other"},
        {**plain, "params": {"w": 6}, "flow": {**plain["flow"], "a": "Linear(w, 2 * 3)"}},
        {**plain, "flow": {**plain["flow"], "a": {"through": "Linear(6, 6)", "frozen": True}}},
    ]
    different = [
        {**plain, "flow": {"a": "Linear(6, 6)", "l": {"loop": "Linear(6, 6)", "times": 3}}},
        {**plain, "flow": {"a": "Linear(6, 6, bias=false)", "l": {"loop": "Linear(6, 6)", "times": 2}}},
        {**plain, "flow": {"a": {"also": "Linear(6, 6)"}, "l": {"loop": "Linear(6, 6)", "times": 2}}},
        {**plain, "flow": {"l": {"loop": "Linear(6, 6)", "times": 2}, "a": "Linear(6, 6)"}},
    ]
    equal.append({**plain, "flow": {**plain["flow"], "a": "Linear(out_features=6, in_features=6)"}})
    assert {hash_of(document) for document in equal} == {hash_of(plain)}
    assert len({hash_of(document) for document in [plain, *different]}) == 5
