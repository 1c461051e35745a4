"""The page of runs, in a browser."""

from __future__ import annotations

import pytest

from flowconf.draw.data import as_data
from flowconf.draw.facts import Facts
from flowconf.draw.levels import picture
from flowconf.draw.page.assemble import report_page
from flowconf.language.resolve.resolver import resolve
from flowconf.text.documents import read
from tests.draw.contrast import contrast, low_contrast

HOSTILE = "</script><script>window.ran=1</script><img src=x onerror=window.ran=2>\u202e\x1b"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
DEEP = """
label: deep
inputs: {x: [B, 4]}
flow:
  stem: Linear(4, 8)
  inner:
    graph: {flow: {first: "Linear(8, 8)", second: {graph: {flow: {third: "Linear(8, 2)"}}}}}
"""
GRAPH = "label: small\ninputs: {x: [B, 4]}\nflow: {stem: 'Linear(4, 8)', head: 'Linear(8, 2)'}\n"


def run(name: str, scale: float, **more):
    steps = list(range(0, 400, 10))
    curves = {
        "train/loss": {"steps": steps, "values": [scale / (1 + step / 50) for step in steps]},
        "val/loss": {"steps": steps[::4], "values": [1.2 * scale / (1 + step / 50) for step in steps[::4]]},
        "val/accuracy": {"steps": steps[::4], "values": [1 - 0.9 / (1 + step / 50) for step in steps[::4]]},
        "lr/body": {"steps": steps, "values": [0.001] * len(steps)},
    }
    phases = [{"name": "warm up", "from": 0, "to": 200}, {"name": "whole", "from": 200, "to": 390}]
    found = {"name": name, "status": "finished", "facts": [["config", "a.yaml"]], "metrics": {"val/loss": scale}}
    found |= {"curves": curves, "thinned": False, "phases": phases, "steps_per_epoch": 20, "weights": ["2 tensors"]}
    settings = [["optimizer.lr", str(scale), "a.yaml:3:5"]]
    return found | {"settings": settings, "environment": [["python", "3.11"]], "graph": None} | more


def report(*runs, differs=()):
    return {"format": "flowconf report", "version": 1, "runs": list(runs), "differs": list(differs)}


def task_of(rows, **more):
    counts = [[9, 1, 0], [0, 8, 2], [0, 0, 5]]
    confusion = {"classes": [0, 7, -1], "counts": counts, "pairs": [(7, 9, 2), (0, 7, 1)], "right": 22, "total": 25}
    confusion["names"] = {"0": "ant", "9": "bee"}
    found = {"of": ["loss.label"], "predicted": "logits", "target": "label"}
    return found | {"confusion": confusion, "rows": rows, "wrong": rows} | more


@pytest.fixture(scope="module")
def graph():
    return as_data(picture(resolve(read("a.yaml", GRAPH))), Facts())


def labels(tab) -> list[str]:
    """The legend of the first chart, once it is drawn."""
    tab.locator("figure").first.locator("canvas").first.wait_for()
    return [label.rstrip(":") for label in tab.locator("figure").first.locator(".u-label").all_text_contents()]


def is_painted(tab, selector: str) -> bool:
    return tab.locator(selector).first.evaluate(
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((part) => part)"
    )


def test_one_run_has_curves_by_quantity_and_split(graph, shows):
    tab = shows(report_page(report(run("first", 1.0, graph=graph))))
    assert tab.locator("h1").first.text_content() == "first"
    assert tab.locator("figcaption").all_text_contents() == ["loss", "accuracy", "lr/body"]
    assert labels(tab) == ["step", "train", "val"]
    labels(tab)
    assert is_painted(tab, "figure canvas")
    assert tab.locator('.graph [data-id="stem"]').count() == 1
    assert "a.yaml:3:5" in tab.locator("table.settings").inner_text()
    assert "2 tensors" in tab.locator("pre").first.inner_text()


def test_named_splits_are_lines_of_one_chart_and_columns_of_one_table(shows):
    splits = ("val", "noisy", "test")
    metrics = {f"{split}/{name}": 0.5 for split in splits for name in ("loss", "loss/label", "words")}
    curves = {name: {"steps": [10, 20], "values": [0.6, 0.5]} for name in metrics if not name.startswith("test")}
    curves |= {"train/loss": {"steps": [10, 20], "values": [0.7, 0.6]}, "mine/other": {"steps": [10], "values": [1.0]}}
    tab = shows(report_page(report(run("first", 1.0, curves=curves, metrics=metrics))))
    assert tab.locator("table.results th").all_text_contents() == ["best weights", "val", "noisy", "test"]
    assert tab.locator("table.results td:first-child").all_text_contents() == ["loss", "loss/label", "words"]
    assert tab.locator("figcaption").all_text_contents() == ["loss", "words", "mine/other"]
    assert labels(tab) == ["step", "train", "val", "noisy"]


def test_a_term_is_shown_beside_the_loss_unless_it_is_the_loss(shows):
    values = {"val/loss": 0.5, "val/loss/label": 0.5, "val/loss/other": 0.0}
    for terms, shown in ((1, ["loss"]), (2, ["loss", "loss/label", "loss/other"])):
        curves = {name: {"steps": [10], "values": [value]} for name, value in list(values.items())[: terms + 1]}
        tab = shows(report_page(report(run("first", 1.0, curves=curves))))
        assert tab.locator("figcaption").all_text_contents() == shown
    curves = {"val/loss": {"steps": [10], "values": [0.5]}, "val/loss/label": {"steps": [10], "values": [1.0]}}
    tab = shows(report_page(report(run("weighted", 1.0, curves=curves))))
    assert tab.locator("figcaption").all_text_contents() == ["loss", "loss/label"]


def test_curves_are_filtered_and_follow_the_axis(shows):
    tab = shows(report_page(report(run("first", 1.0))))
    tab.get_by_label("filter curves").fill("acc")
    assert tab.locator("figcaption").all_text_contents() == ["accuracy"]
    tab.get_by_label("filter curves").fill("")
    tab.get_by_label("axis").select_option("epoch")
    assert labels(tab)[0] == "epoch"
    tab.get_by_label("logarithmic").check()
    assert tab.locator("figure").count() == 3


def test_phases_are_bands(shows):
    with_phases = shows(report_page(report(run("first", 1.0))))
    without = shows(report_page(report(run("first", 1.0, phases=[]))))
    painted = "canvas => canvas.toDataURL()"
    labels(with_phases), labels(without)
    assert with_phases.locator("canvas").first.evaluate(painted) != without.locator("canvas").first.evaluate(painted)


def test_several_runs_begin_with_what_differs(shows):
    differs = [{"key": "optimizer.lr", "values": ["1", "2"]}]
    tab = shows(report_page(report(run("first", 1.0), run("second", 2.0), differs=differs)))
    assert tab.locator("h2").first.text_content() == "What differs"
    assert tab.locator("table thead").first.inner_text().split() == ["run", "status", "optimizer.lr", "val/loss"]
    assert tab.locator("table tbody").first.inner_text().split() == [
        "A",
        "first",
        "finished",
        "1",
        "1",
        "B",
        "second",
        "finished",
        "2",
        "2",
    ]
    assert labels(tab) == ["step", "A train", "A val", "B train", "B val"]
    tab.get_by_label("show first").uncheck()
    assert labels(tab) == ["step", "B train", "B val"]
    tab.get_by_label("split").select_option("val")
    assert labels(tab) == ["step", "B val"]


def test_several_runs_are_sorted_and_chosen(graph, shows):
    differs = [{"key": "optimizer.lr", "values": ["1", "10"]}]
    tab = shows(report_page(report(run("first", 1.0, graph=graph), run("second", 0.5), differs=differs)))
    names = tab.locator("tbody tr td:first-child button")
    assert names.all_text_contents() == ["first", "second"]
    tab.get_by_role("button", name="val/loss").click()
    assert names.all_text_contents() == ["second", "first"]
    tab.get_by_role("button", name="optimizer.lr").click()
    tab.get_by_role("button", name="optimizer.lr").click()
    assert names.all_text_contents() == ["second", "first"]
    assert tab.locator('.graph [data-id="stem"]').count() == 1
    names.first.click()
    assert tab.get_by_role("heading", name="B second").is_visible()
    assert tab.locator(".graph").count() == 0


def test_predictions_are_shown_beside_their_targets(shows):
    row = {"inputs": {"image": {"png": PNG}}, "target": {"text": "7"}, "predicted": {"text": "9"}, "confidence": [0.98]}
    tasks = [
        task_of([row | {"right": False}]),
        task_of([{"target": {"png": PNG}, "predicted": {"png": PNG}}], confusion=None),
    ]
    found = {"split": "val", "step": 1200, "inputs": [row["inputs"]], "tasks": tasks}
    tab = shows(report_page(report(run("first", 1.0, predictions=found))))
    table = tab.locator("table.confusion")
    assert table.locator("thead").inner_text().split() == ["target", "ant", "7", "others"]
    assert [line.split() for line in table.locator("tbody tr").all_inner_texts()][1] == ["7", "8", "2"]
    assert table.get_by_title("7 taken for others: 2 (20\xa0% of 7)").count() == 1
    assert tab.locator(".pairs li").all_inner_texts() == ["7 taken for bee: 2 ×", "ant taken for 7: 1 ×"]
    assert "22 of 25 right (88\xa0%), loss.label" in tab.locator(".compared h3").inner_text()
    words = " ".join(tab.locator(".sample.wrong").first.inner_text().split())
    assert words == "image target 7 prediction ✗ 9 98 %"
    first = tab.locator(".sample:not(.wrong)")
    assert " ".join(first.inner_text().split()) == "image label 7 logits ✗ 9 98 % label logits"
    assert first.locator("img").evaluate_all("all => all.map((image) => image.naturalWidth)") == [1, 1, 1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_narrow_window(scheme, graph, shows):
    tab = shows(
        report_page(report(run("first", 1.0, graph=graph))), viewport={"width": 320, "height": 640}, color_scheme=scheme
    )
    assert tab.evaluate("document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast(scheme, graph, shows):
    row = {"inputs": {"image": {"png": PNG}}, "target": {"text": "7"}, "predicted": {"text": "9"}, "right": False}
    shown = {"split": "val", "step": 400, "inputs": [row["inputs"]], "tasks": [task_of([row])]}
    differs = [{"key": "optimizer.lr", "values": ["2", "1"]}]
    one, failed = run("first", 2.0, graph=graph, predictions=shown), run("second", 1.0, status="failed")
    tab = shows(report_page(report(one, failed, differs=differs)), color_scheme=scheme)
    for summary in tab.locator("summary").all():
        summary.click()
    tab.locator("canvas").first.wait_for()
    assert low_contrast(tab) == {}
    assert {at: ratio for at in range(1, 7) if (ratio := contrast(tab, f"curve{at}", "panel")) < 3} == {}


def test_it_prints_without_tools(graph, shows):
    tab = shows(report_page(report(run("first", 1.0, graph=graph))))
    tab.emulate_media(media="print")
    assert not tab.get_by_label("filter curves").is_visible()
    assert tab.locator("figure").first.is_visible()


def test_the_keyboard_reaches_everything(shows):
    deep = as_data(picture(resolve(read("a.yaml", DEEP))), Facts(), depth=1)
    differs = [{"key": "optimizer.lr", "values": ["2", "1"]}]
    tab = shows(report_page(report(run("first", 2.0, graph=deep), run("second", 1.0), differs=differs)))
    tab.get_by_role("button", name="optimizer.lr").focus()
    tab.keyboard.press("Enter")
    assert tab.locator("tbody tr td:first-child button").all_text_contents() == ["second", "first"]
    assert tab.evaluate("document.activeElement.textContent") == "optimizer.lr ↑", "the focus stays"
    tab.get_by_role("navigation", name="sections").get_by_role("button", name="Graph").focus()
    tab.keyboard.press("Enter")
    assert tab.locator(".graph svg.map").evaluate("map => map.getBoundingClientRect().top < innerHeight")
    assert tab.locator('[data-id="inner.second.third"]').count() == 0
    tab.locator(".graph svg.map").focus()
    tab.keyboard.press("/")
    tab.keyboard.type("third")
    tab.keyboard.press("Enter")
    assert tab.locator('[data-id="inner.second.third"].selected').is_visible()


def test_sections_are_listed_and_open(graph, shows):
    tab = shows(report_page(report(run("first", 1.0, graph=graph, settings=[["key", "1", "a.yaml:1:1"]] * 50))))
    sections = tab.get_by_role("navigation", name="sections").get_by_role("button")
    assert sections.all_text_contents() == ["Results", "Curves", "Graph", "Weights", "Settings (50)", "Environment"]
    assert not tab.locator("table.settings").is_visible()
    sections.nth(4).click()
    assert tab.locator("table.settings").is_visible()


def test_a_selected_member_has_the_course_of_its_statistics(graph, shows):
    weight = {"title": "norm of the weights", "group": "statistics", "values": {"stem": [1.0, "5"], "head": [0.4, "2"]}}
    weight |= {"steps": [0, 100, 400], "history": {"stem": [1.0, 3.0, 5.0], "head": [None, 2.0, 2.0]}}
    once = {
        "title": "zeros",
        "group": "statistics",
        "values": {"stem": [0.5, "50.0%"]},
        "steps": [0],
        "history": {"stem": [0.5]},
    }
    tab = shows(report_page(report(run("first", 1.0, graph={**graph, "overlays": {"weight": weight, "zeros": once}}))))
    tab.locator('[data-id="stem"]').click()
    assert tab.locator("aside h3").first.inner_text() == "Statistics, steps 0 to 400"
    assert tab.locator(".trend").inner_text().split("\n") == ["norm of the weights", "5", "1 to 5"]
    assert tab.locator(".trend polyline").get_attribute("points") == "0.0,40.0 80.0,20.0 320.0,0.0"
    assert tab.locator("dt", has_text="zeros").count() == 1
    tab.locator('[data-id="head"]').click()
    assert tab.locator(".trend polyline").get_attribute("points") == "80.0,20.0 320.0,20.0"


def test_members_have_the_account_of_the_weights_around_them(shows):
    deep = as_data(picture(resolve(read("a.yaml", DEEP)), Facts(parameters={"inner.first.weight": (8, 8)})), Facts())
    deep["accounts"] = {"inner": ["weights of `inner`: 1 of 1"]}
    tab = shows(report_page(report(run("first", 1.0, graph=deep))))
    tab.locator('[data-id="inner.first"]').click()
    assert "Weights of inner\nweights of `inner`: 1 of 1" in tab.locator("aside").inner_text()
    tab.locator('[data-id="stem"]').click()
    assert "weights of `inner`" not in tab.locator("aside").inner_text()


def test_hostile_texts_are_only_texts(shows):
    one = run(HOSTILE, 1.0, weights=[HOSTILE], status=HOSTILE, facts=[[HOSTILE, HOSTILE]])
    one["curves"] = {f"val/{HOSTILE}": one["curves"]["val/loss"], HOSTILE: one["curves"]["val/loss"]}
    one["phases"] = [{"name": HOSTILE, "from": 0, "to": 200}]
    one["settings"] = one["environment"] = [[HOSTILE, HOSTILE, HOSTILE]]
    images = [{"name": HOSTILE, "step": 1, "file": HOSTILE, "png": text} for text in (PNG, f'x"{HOSTILE}')]
    counts = {HOSTILE: [{"step": 1, "edges": [0, 1], "counts": [1, 0, 3]}]}
    one["media"] = {"images": images, "histograms": counts, "texts": {HOSTILE: [{"step": 1, "text": HOSTILE}]}}
    value = {"text": HOSTILE}
    row = {"inputs": {HOSTILE: value}, "target": {"png": f'x"{HOSTILE}'}, "predicted": value, "confidence": [0.5, 1]}
    task = task_of([row], of=[HOSTILE], predicted=HOSTILE, target=HOSTILE)
    one["predictions"] = {"split": HOSTILE, "step": 1, "inputs": [{HOSTILE: value}], "tasks": [task]}
    differs = [{"key": HOSTILE, "values": [HOSTILE, HOSTILE]}]
    tab = shows(report_page(report(one, one, differs=differs)))
    assert tab.evaluate("window.ran") is None
    assert tab.locator("script").count() == 2
    assert tab.locator("img").count() == 1
    assert tab.locator("img").evaluate("image => image.naturalWidth") == 1
    assert is_painted(tab, ".media canvas")
    assert tab.locator(".texts").inner_text().startswith("step 1")
    tab.locator("canvas").first.wait_for()
    assert "\\u202e" in tab.locator("table").first.inner_text()


def test_many_points_are_drawn(shows):
    long = {"steps": list(range(1500)), "values": [1 / (1 + step) for step in range(1500)]}
    runs = [run(f"run {number}", 1.0, curves={"val/loss": long}) for number in range(40)]
    tab = shows(report_page(report(*runs)))
    tab.locator("canvas").first.wait_for()
    assert is_painted(tab, "figure canvas")
    tab.locator("canvas").first.scroll_into_view_if_needed()
    box = tab.locator("canvas").first.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 40)
    assert tab.locator(".nearest").first.text_content().split()[1] == "val"
