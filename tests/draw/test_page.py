"""The page of a graph, in a browser: it folds, searches, selects, prints, and nothing in a document runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import flowconf
from flowconf.cli.main import main
from flowconf.draw.data import as_data
from flowconf.draw.levels import picture
from flowconf.draw.page.assemble import HERE, graph_page, in_frame, pair_page
from flowconf.draw.page.assemble import modules as scripts
from flowconf.graph.facts import facts_of
from flowconf.language.registry import modules
from flowconf.train.checks import road
from tests.draw.contrast import contrast, low_contrast

DOCUMENT = """\
label: everything
params: {width: 12}
inputs: {image: [B, 784]}
flow:
  # the largest member
  stem: Linear(784, width) >> GELU
  block:
    also: Linear(width, width)
    repeat: 3
  again:
    loop: Linear(width, width) >> Tanh
    times: 4
  read:
    loop:
      flow:
        think: {through: "GRUCell(width, width)", using: {hx: again}}
        move: Linear(width, 12)
    times: 2
  found: {from: read.think, through: ReLU}
  mixed:
    split: {a: "Linear(width, 6)", b: "Linear(width, 6)"}
    merge: cat
  pick:
    gate: {a: "Linear(width, width)", b: Identity}
    router: Linear(width, 2) >> Softmax(-1)
  choose:
    switch: {a: "Linear(width, width)", b: Identity}
    router: ArgmaxSelector(width, 2)
  halves: {map: "Linear(6, 6)", slices: 2}
  probe: {fork: "Linear(width, 1)", tag: score}
  twice: {reuse: block.0}
  teacher:
    frozen: true
    checkpoint: {path: teacher.safetensors, at: inner}
    graph:
      inputs: {x: [B, 12]}
      flow:
        hidden: Linear(12, 6) >> ReLU
        out: Linear(6, 4)
"""
HOSTILE = "</script><script>window.ran=1</script><img src=x onerror=window.ran=2>\"'`${window.ran=3}\u202e\x1b[2J\u2028"


def data_of(text: str, file: str = "graph.yaml", opened: bool = False) -> dict[str, Any]:
    Path(file).write_text(text, encoding="utf-8")
    walk = road.begin(file).to("sizes")
    facts = facts_of(walk.plan, walk.inference)
    return as_data(picture(walk.plan, facts, opened), facts)


def long_document(count: int) -> str:
    steps = [f"  m{number}: {'GELU' if number % 2 else 'Linear(8, 8)'}" for number in range(count)]
    return "\n".join(["label: long", "inputs: {x: [B, 8]}", "flow:", *steps]) + "\n"


def hostile(value: Any, key: str = "") -> Any:
    """The data with a hostile text in every text that a document determines."""
    if isinstance(value, dict):
        return {
            (name + HOSTILE if key in ("lines", "source", "accounts") else name): hostile(inner, name)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [hostile(inner, key) for inner in value]
    return value + HOSTILE if isinstance(value, str) and key not in ("kind", "verb", "frozen", "setting") else value


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("documents"))
        return data_of(DOCUMENT)


@pytest.fixture(scope="module")
def page(data):
    return graph_page(data)


def card(tab, path: str):
    return tab.locator(f'[data-id="{path}"]')


def texts(tab, path: str) -> list[str]:
    """The lines on a card or on the head of an open box."""
    return card(tab, path).locator(":scope > text").all_text_contents()


def scale(tab) -> float:
    return float(re.search(r"scale\(([\d.]+)\)", tab.locator(".map > g").get_attribute("transform"))[1])


def becomes(holds, tab) -> bool:
    """Whether something holds after a while: the wheel takes effect in a later frame."""
    return any(holds() or tab.wait_for_timeout(20) for _ in range(100))


def test_a_card_has_the_call_by_value_the_shape_and_the_parameters(page, shows):
    tab = shows(page)
    assert texts(tab, "stem") == ["stem", "9.42 k", "Linear(784, 12)", "GELU", "→ [B, 12]"]
    assert "× 3" in texts(tab, "block")
    assert "loop × 4" in texts(tab, "again")
    assert card(tab, "teacher").locator("title").first.text_content() == "frozen"
    assert "weights from teacher.safetensors at inner" in texts(tab, "teacher")
    assert "same weights as block.0" in texts(tab, "twice")


def test_edges_differ_by_kind(page, shows):
    tab = shows(page, "open=read")
    dashes = {
        kind: tab.locator(f".link.{kind} .edge").first.evaluate("edge => getComputedStyle(edge).strokeDasharray")
        for kind in ("stream", "reference", "state")
    }
    assert dashes["stream"] == "none"
    assert len(set(dashes.values())) == 3
    assert tab.locator(".link.reference .edge").count() >= 2


@pytest.mark.parametrize("verb", ["loop", "map", "switch", "gate", "split", "fork", "also", "reuse"])
def test_each_verb_has_an_icon_and_a_word(verb, page, shows):
    tab = shows(page)
    one = tab.locator(f".member.{'map-verb' if verb == 'map' else verb}").first
    assert one.locator(":scope > .icon path").count() >= 1
    assert verb in (one.locator(":scope > .verb").text_content())


def test_a_graph_folds_and_unfolds(page, shows):
    tab = shows(page, "open=")
    assert card(tab, "teacher.hidden").count() == 0
    card(tab, "teacher").locator(".fold").click()
    assert card(tab, "teacher.hidden").count() == 1
    assert card(tab, "teacher").get_attribute("aria-expanded") == "true"
    card(tab, "teacher").locator(":scope > .fold").click()
    assert card(tab, "teacher.hidden").count() == 0
    tab.get_by_title("unfold one level").click()
    assert card(tab, "teacher.hidden").count() == 1
    tab.get_by_title("fold all").click()
    assert tab.locator(".member.open").count() == 0


def test_unfolding_keeps_the_place_of_the_graph(page, shows):
    tab = shows(page, "open=")
    before = card(tab, "teacher").bounding_box()
    card(tab, "teacher").locator(".fold").click()
    after = card(tab, "teacher").bounding_box()
    assert (after["x"], after["y"]) == pytest.approx((before["x"], before["y"]), abs=2)


def test_the_search_finds_folded_members(page, shows):
    tab = shows(page, "open=")
    search = tab.get_by_role("searchbox")
    search.fill("teacher.hidden")
    assert "1 found" in tab.locator(".count").text_content()
    search.press("Enter")
    assert card(tab, "teacher.hidden").get_attribute("aria-selected") == "true"
    assert tab.locator("aside h2").text_content() == "hidden"
    search.fill("frozen linear")
    assert "found" in tab.locator(".count").text_content()
    search.fill("no such member")
    assert tab.locator(".count").text_content() == "0 found"
    search.press("Escape")
    assert search.input_value() == ""


def test_the_panel_of_a_member_has_its_yaml_its_shapes_and_its_source(page, shows):
    tab = shows(page, "open=")
    card(tab, "stem").click()
    panel = tab.locator("aside")
    said = panel.inner_text()
    assert "Linear(784, 12)" in said
    assert "Linear(784, width)" in said
    assert "graph.yaml:6" in said
    assert panel.locator("pre .line").first.text_content() == "6stem: Linear(784, width) >> GELU"
    assert "[12, 784]" in said
    assert "self.stem = nn.Sequential(nn.Linear(784, width), nn.GELU())" in said
    assert "9,420" in said
    panel.get_by_role("button", name="block").click()
    assert tab.locator("aside h2").text_content() == "block"
    assert "156 in each of 3 copies" in panel.inner_text()


def test_the_panel_of_the_graph_lists_the_largest_members(page, shows):
    tab = shows(page, "open=")
    rows = tab.locator(".largest li")
    assert rows.first.locator(".path").text_content() == "stem"
    assert "graph.yaml:6" in rows.first.inner_text()
    rows.first.get_by_role("button").click()
    assert card(tab, "stem").get_attribute("aria-selected") == "true"


def test_overlays_show_shares(data, shows):
    time = {"title": "time of a step", "values": {"stem": [0.75, "3 ms"], "nowhere": [1, "?"]}}
    tab = shows(graph_page(data | {"overlays": {"time": time}}), "open=")
    assert tab.locator(".share").count() == 0
    tab.get_by_label("overlay").select_option("parameters")
    share = card(tab, "stem").locator(".share").bounding_box()["width"]
    track = card(tab, "stem").locator(".track").bounding_box()["width"]
    figure = next(text for text in texts(tab, "stem") if "%" in text)
    assert share / track == pytest.approx(float(figure.split("·")[1].strip(" \xa0%")) / 100, abs=0.02)
    tab.get_by_label("overlay").select_option("time")
    assert "3 ms" in texts(tab, "stem")
    assert "Largest by time of a step" in tab.locator("aside").inner_text()
    card(tab, "stem").click()
    assert "time of a step\n3 ms" in tab.locator("aside dl").first.inner_text()


def test_shapes_appear_on_edges_when_asked(page, shows):
    tab = shows(page, "open=")
    assert "[B, 12]" not in tab.locator(".label").all_text_contents()
    tab.get_by_role("button", name="shapes").click()
    assert "[B, 12]" in tab.locator(".label").all_text_contents()


def test_the_keyboard_reaches_everything(page, shows):
    tab = shows(page, "open=")
    tab.keyboard.press("/")
    assert tab.evaluate("document.activeElement.type") == "search"
    tab.keyboard.press("Escape")
    tab.keyboard.press("ArrowDown")
    first = tab.evaluate("document.activeElement.dataset.id")
    tab.keyboard.press("ArrowDown")
    second = tab.evaluate("document.activeElement.dataset.id")
    assert (first, second) == ("input image", "stem")
    card(tab, "teacher").click()
    tab.keyboard.press("Enter")
    assert card(tab, "teacher.hidden").count() == 1
    tab.keyboard.press("Enter")
    assert card(tab, "teacher.hidden").count() == 0
    before = scale(tab)
    tab.keyboard.press("+")
    assert scale(tab) > before
    tab.keyboard.press("0")
    assert scale(tab) == pytest.approx(before)
    tab.keyboard.press("s")
    assert "[B, 12]" in tab.locator(".label").all_text_contents()
    tab.keyboard.press("Escape")
    assert tab.locator("[aria-selected=true]").count() == 0


def test_the_map_moves_and_zooms(page, shows):
    tab = shows(page)
    before = tab.locator(".map > g").get_attribute("transform")
    tab.mouse.move(30, 800)
    tab.mouse.down()
    tab.mouse.move(130, 700, steps=4)
    tab.mouse.up()
    moved = tab.locator(".map > g").get_attribute("transform")
    assert moved != before
    tab.mouse.wheel(0, -300)
    tab.wait_for_function(
        "before => document.querySelector('.map > g').getAttribute('transform') !== before", arg=moved
    )


def test_the_address_keeps_the_view(page, shows):
    tab = shows(page, "open=")
    card(tab, "teacher").locator(".fold").click()
    card(tab, "teacher.hidden").click()
    tab.get_by_label("overlay").select_option("parameters")
    tab.get_by_role("button", name="shapes").click()
    seen = tab.locator("main").inner_html()
    address = tab.evaluate("location.hash.slice(1)")
    again = shows(page, address)
    assert card(again, "teacher.hidden").get_attribute("aria-selected") == "true"
    assert again.locator("main .member").count() == tab.locator("main .member").count()
    assert re.sub(r"(translate|scale)\([^)]*\)", "", again.locator("main").inner_html()) == re.sub(
        r"(translate|scale)\([^)]*\)", "", seen
    )


def test_it_prints_the_map_and_no_tools(page, shows):
    tab = shows(page)
    tab.emulate_media(media="print")
    assert not tab.get_by_role("searchbox").is_visible()
    tab.wait_for_function("() => document.querySelector('svg.map').hasAttribute('viewBox')")
    paper = tab.locator("svg.map").bounding_box()
    for box in (member.bounding_box() for member in tab.locator(".member").all()):
        assert paper["x"] - 1 <= box["x"]
        assert box["x"] + box["width"] <= paper["x"] + paper["width"] + 1
        assert box["y"] + box["height"] <= paper["y"] + paper["height"] + 1
    tab.emulate_media(media="screen")
    tab.wait_for_function("() => !document.querySelector('svg.map').hasAttribute('viewBox')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast(scheme, data, page, shows):
    tab = shows(page, color_scheme=scheme)
    assert low_contrast(tab) == {}
    lines = ("edge", "accent", "loop", "map", "fork", "choice", "ice", "share", "state")
    assert {line: ratio for line in lines if (ratio := contrast(tab, line, "ground")) < 3} == {}
    tab.get_by_label("overlay").select_option("parameters")
    tab.get_by_role("button", name="shapes").click()
    tab.get_by_role("searchbox").fill("linear")
    tab.locator('[data-id="stem"]').click()
    assert low_contrast(tab) == {}
    marks = {"stem": {"kind": "added", "texts": ["by a pivot"]}, "block": {"kind": "changed", "texts": []}}
    marks |= {"mixed": {"kind": "removed", "texts": []}, "pick": {"kind": "resized", "texts": ["[4]"]}}
    marks |= {"again": {"kind": "error", "texts": ["does not fit"]}, "read": {"kind": "cause", "texts": []}}
    assert (
        low_contrast(shows(pair_page(data, {**data, "marks": marks}, ("a.yaml", "b.yaml")), color_scheme=scheme)) == {}
    )


def test_it_fits_a_narrow_window(page, shows):
    tab = shows(page, viewport={"width": 320, "height": 640})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 320
    assert tab.locator("aside").bounding_box()["width"] <= 320
    assert scale(tab) >= 0.5
    tab.get_by_role("button", name="fit").click()


@pytest.mark.parametrize("count", [1_000, 10_000])
def test_many_members_are_folded_into_ranges(count, shows, tmp_path):
    tab = shows(graph_page(data_of(long_document(count), str(tmp_path / "long.yaml"))))
    assert 10 <= tab.locator(".member").count() <= 120
    assert re.fullmatch(r"m0 … m\d+", tab.locator(".range > .name").first.text_content())
    assert scale(tab) >= 0.5
    search = tab.get_by_role("searchbox")
    search.fill(f"m{count // 2}")
    search.press("Enter")
    assert card(tab, f"m{count // 2}").get_attribute("aria-selected") == "true"
    assert tab.locator(".member").count() <= 200
    for _ in range(3):
        tab.get_by_role("button", name="unfold").click()
    assert 300 <= tab.locator(".member").count() <= 1002


def test_branches_are_in_declared_order(page, shows):
    tab = shows(page, "open=mixed|pick")
    for step, names in (("mixed", "a b"), ("pick", "a b router")):
        lefts = [card(tab, f"{step}.{name}").bounding_box()["x"] for name in names.split()]
        assert lefts == sorted(lefts)


def test_the_wheel_scrolls_the_page_around_a_map_that_has_no_focus(page, shows):
    tab = shows(page, "open=", viewport={"width": 700, "height": 600})
    before = scale(tab)
    box = tab.locator(".map").bounding_box()
    tab.mouse.move(box["x"] + 5, box["y"] + 5)
    tab.mouse.wheel(0, 40)
    assert becomes(lambda: tab.evaluate("scrollY") > 0, tab)
    assert scale(tab) == before
    tab.locator(".map").focus()
    tab.mouse.wheel(0, -40)
    assert becomes(lambda: scale(tab) > before, tab)


def test_marked_members_are_unfolded_and_listed(data, shows):
    marks = {
        "teacher.hidden": {"kind": "changed", "texts": ["Linear(12, 6) -> Linear(12, 8)"]},
        "gone": {"kind": "removed", "texts": ["ReLU"]},
    }
    tab = shows(graph_page(data | {"marks": marks, "title": "Changes", "notes": ["weights: 2 of 4"]}))
    assert card(tab, "teacher.hidden").locator(".mark").text_content() == "changed"
    assert card(tab, "block").get_attribute("class").find("open") == -1
    panel = tab.locator("aside")
    assert "removed gone" in panel.inner_text()
    assert "weights: 2 of 4" in panel.inner_text()
    panel.get_by_role("button", name="teacher.hidden").first.click()
    assert "Linear(12, 6) -> Linear(12, 8)" in panel.inner_text()


def test_hostile_texts_are_only_texts(data, shows):
    tab = shows(graph_page(hostile(data)), "shapes=1&show=parameters")
    assert tab.evaluate("window.ran") is None
    assert tab.locator("script").count() == 2
    assert tab.locator("img, iframe, object, foreignObject").count() == 0
    for one in tab.locator(".member").all()[:12]:
        one.dispatch_event("click")
    shown = tab.locator("aside").inner_text()
    assert "</script><script>window.ran=1</script>" in shown
    assert "\\u202e" in shown
    assert "\\x1b" in shown
    assert tab.evaluate("window.ran") is None


def test_nothing_outside_of_the_page_can_run_or_load(page, browser, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(page, encoding="utf-8")
    tab = browser.new_page()
    tab.goto(file.as_uri())
    assert tab.evaluate("fetch('https://example.org').then(() => 'loaded', () => 'refused')") == "refused"
    refused = """() => new Promise((done) => {
      document.addEventListener("securitypolicyviolation", (event) => done(event.violatedDirective));
      const script = document.createElement("script");
      script.textContent = "window.ran = 1";
      document.body.append(script);
    })"""
    assert "script-src" in tab.evaluate(refused)
    assert tab.evaluate("window.ran") is None
    tab.close()


def test_a_notebook_shows_it_in_a_sandbox(browser):
    graph = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": {"stem": "Linear(4, 8)"}})
    tab = browser.new_page()
    problems: list[str] = []
    tab.on("console", lambda message: problems.append(message.text))
    tab.set_content(graph._repr_html_())
    frame = tab.frame_locator("iframe")
    frame.locator('[data-id="stem"]').click()
    assert "Linear(4, 8)" in frame.locator("aside").inner_text()
    assert tab.locator("iframe").get_attribute("sandbox") == "allow-scripts"
    assert problems == []
    tab.close()


def test_a_trace_fades_what_the_selection_has_no_part_in(page, shows):
    tab = shows(page, "open=read&at=found")
    faded = lambda: {one.get_attribute("data-id") for one in tab.locator(".member.faded").all()}  # noqa: E731
    assert faded() == set()
    tab.get_by_role("button", name="trace").click()
    assert faded() == set()
    tab.locator(".map").focus()
    card(tab, "probe").click()
    assert faded() == {"twice", "teacher", "output teacher"}
    assert tab.locator(".link.faded").count() == 3
    card(tab, "read.think").click()
    tab.keyboard.press("t")
    assert faded() == set()


# without a browser


def test_the_same_graph_gives_the_same_bytes(data, tmp_path, monkeypatch):
    file = tmp_path / "graph.yaml"
    file.write_text(DOCUMENT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["draw", "graph.yaml", "-o", "a.html"]) == 0
    call = [sys.executable, "-m", "flowconf", "draw", "graph.yaml", "-o", "b.html"]
    subprocess.run(call, check=True, env={"PYTHONHASHSEED": "7", "PATH": "", "PYTHONPATH": ":".join(sys.path)})
    assert Path("a.html").read_bytes() == Path("b.html").read_bytes()


def test_a_graph_is_a_page_as_it_is_now():
    graph = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": {"stem": "Linear(4, 8)", "head": "Linear(8, 2)"}})
    assert '"trainable":58' in graph.html()
    graph.freeze("stem")
    assert '"trainable":18' in graph.html()
    assert in_frame(graph.html()) == graph._repr_html_()


def test_vendored_files_are_those_of_their_packages():
    listed = json.loads((HERE / "vendor" / "vendored.json").read_text(encoding="utf-8"))
    for name, entry in listed.items():
        assert sha256((HERE / "vendor" / name).read_bytes()).hexdigest() == entry["sha256"], name
        assert entry["licence"] == "MIT"
        assert "Permission is hereby granted" in (HERE / "vendor" / f"{name.partition('.')[0]}.LICENSE.txt").read_text()


def test_the_page_has_the_licences_of_what_it_contains(page):
    assert "Copyright (c) 2012-2014 Chris Pettitt" in page
    assert "sourceMappingURL" not in page


def test_the_page_has_no_comments_of_its_modules(page):
    script = "\n".join(scripts("graph"))
    assert "const graph_js = (() => {" in script
    assert not re.search(r"^ *(//|/\*\*)", script, re.MULTILINE)
    assert script in page


def test_two_graphs_are_selected_in_step(data, shows):
    changed = json.loads(json.dumps(data))
    members = changed["graph"]["inside"]["members"]
    renamed = next(one for one in members if one["kind"] == "step" and one["id"] != "teacher")
    gone, renamed["id"] = renamed["id"], "another"
    values = {"teacher": [0.5, "1 of 2 tensors carry over"]}
    after = changed | {"overlays": {"carried": {"title": "carried", "values": values}}, "show": "carried"}
    tab = shows(pair_page(data, after, ("a.yaml", "b.yaml model.params.width=8")))
    assert tab.locator("h1").all_text_contents() == ["before: a.yaml", "after: b.yaml model.params.width=8"]
    assert len({header.bounding_box()["height"] for header in tab.locator("header").all()}) == 1
    sides = {name: tab.locator(f".{name}") for name in ("before", "after")}
    assert sides["after"].locator(".figure", has_text="1 of 2 tensors").count() == 1
    card(sides["before"], "teacher").locator(".name").first.click()
    assert "selected" in card(sides["after"], "teacher").get_attribute("class")
    assert sides["after"].locator("aside h2").inner_text() == "teacher"
    assert not sides["before"].locator("aside").is_visible()
    card(sides["before"], gone).click()
    assert sides["before"].locator("aside h2").inner_text() == gone
    assert sides["after"].locator(".selected").count() == 0
    card(sides["after"], "another").click()
    assert sides["after"].locator("aside h2").is_visible()


def test_what_is_far_from_changes_is_folded_and_not_repeated(shows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = data_of(long_document(30))
    after = data_of(long_document(30).replace("m12: Linear(8, 8)", "m12: Linear(8, 8, bias=False)"))
    mark = {"m12": {"kind": "changed", "texts": ["bias"]}}
    page = pair_page(before | {"marks": mark}, after | {"marks": mark}, ("a.yaml", "b.yaml"))
    assert page.count('"same":true') == 30 - 1 + 2
    tab = shows(page)
    for side in ("before", "after"):
        names = tab.locator(f".{side} .member.step .name, .{side} .member.range .name").all_text_contents()
        assert names == ["m0 … m10", "m11", "m12", "m13", "m14 … m29"]
    card(tab.locator(".before"), "m11").click()
    assert card(tab.locator(".after"), "m11").get_attribute("aria-selected") == "true"
    card(tab.locator(".before"), "m0 to m10").locator(".fold").click()
    assert card(tab.locator(".before"), "m4").is_visible()
    card(tab.locator(".before"), "m1").click()
    assert tab.locator(".after aside pre").first.inner_text() == "5m1: GELU"


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 8))

    def forward(self, stream):
        return self.inner(stream)


def test_a_module_of_a_project_unfolds_into_a_list(shows, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(modules.registered, "Stack", Stack)
    page = graph_page(data_of("inputs: {x: [B, 8]}\nflow:\n  a: Stack\n  b: Linear(8, 2)\n", opened=True))
    tab = shows(page)
    assert tab.locator(".largest .path").all_text_contents() == ["a", "b"]
    assert card(tab, "a").get_attribute("aria-expanded") == "false"
    card(tab, "a").locator(".fold").click()
    card(tab, "a.inner").locator(".fold").click()
    first, second = (card(tab, f"a.inner.{number}").bounding_box() for number in range(2))
    assert first["y"] + first["height"] < second["y"]
    assert card(tab, "a").locator(".link").count() == 0
    card(tab, "a.inner.1").click()
    assert "graph.yaml:3" in tab.locator("aside").inner_text()
