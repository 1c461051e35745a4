"""What callbacks log beside numbers: its form in the run folder, in TensorBoard, and for loggers."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch

from flowconf.language import registry
from flowconf.train.runs.media import figure_of, histogram_of, image_of, number_of, text_of
from tests.train.conftest import TINY, module
from tests.train.test_callbacks import watched

FILE = Path("images/one/1.png")


def decoded(png):
    """The pixels of a PNG file: [height, width, channels]."""
    pillow = pytest.importorskip("PIL.Image")
    found = torch.from_numpy(numpy.array(pillow.open(io.BytesIO(png))))
    return found if found.ndim == 3 else found[..., None]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_an_image_is_its_pixels(channels):
    pixels = torch.randint(0, 256, (channels, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    image = image_of("one", pixels[None], FILE)
    assert (image.height, image.width, image.channels) == (5, 7, channels)
    assert torch.equal(decoded(image.png), pixels.permute(1, 2, 0))


def test_several_images_are_a_grid():
    images = torch.linspace(0, 1, 5 * 3 * 4 * 6).view(5, 3, 4, 6)
    found = decoded(image_of("one", images, FILE).png)
    assert found.shape == (2 * 4 + 2, 3 * 6 + 2 * 2, 3)
    bytes_of = (images.double() * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    assert torch.equal(found[:4, :6], bytes_of[0])
    assert torch.equal(found[6:, 8:14], bytes_of[4])
    assert not found[4:6].any()


def test_numbers_outside_are_cut_off():
    values = torch.tensor([[float("nan"), -1.0, 0.5, 2.0, float("inf")]])
    assert decoded(image_of("one", values, FILE).png).flatten().tolist() == [0, 0, 128, 255, 255]
    assert decoded(image_of("one", numpy.eye(3), FILE).png)[..., 0].tolist() == (255 * numpy.eye(3)).tolist()


@pytest.mark.parametrize("shape", [(3,), (2, 5, 4, 4), (1, 2, 3, 4, 5), (0, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=re.escape(f"got {list(shape)}")):
        image_of("one", torch.zeros(shape), FILE)


def test_a_histogram_counts_what_is_finite():
    values = torch.tensor([[0.0, 1.0, 2.0], [2.0, float("nan"), float("-inf")]])
    found = histogram_of("one", values)
    assert (len(found.edges), len(found.counts), found.number) == (65, 64, 4)
    assert (found.edges[0], found.edges[-1], found.counts[0], found.counts[-1]) == (0.0, 2.0, 1, 2)
    assert (found.total, found.squares) == (5.0, 9.0)
    assert histogram_of("one", torch.ones(3)).number == 3
    assert histogram_of("one", torch.full((2,), float("nan"))).number == 0
    assert histogram_of("one", torch.tensor([True, False])).number == 2


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: number_of("a", "1"), "the scalar `a` must be a number, got `str`"),
        (lambda: number_of("a", torch.zeros(2)), "the scalar `a` must be a number, got a tensor of shape [2]"),
        (lambda: histogram_of("a", ["b"]), "`a` must be a tensor or an array, got `list`"),
        (lambda: image_of("a", object(), FILE), "`a` must be a tensor or an array, got `object`"),
        (
            lambda: figure_of("a", torch.zeros(2, 2), FILE),
            "the figure `a` must be a figure of matplotlib, got a tensor",
        ),
        (lambda: text_of("a", 3), "the text `a` must be a string, got `int`"),
    ],
)
def test_wrong_types_are_refused(call, said):
    with pytest.raises(TypeError, match=re.escape(said)):
        call()


def test_numbers_of_all_kinds():
    assert number_of("a", True) == 1.0
    assert number_of("a", numpy.float32(0.5)) == number_of("a", torch.tensor([0.5])) == 0.5


class Figure:
    """What is used of a figure of matplotlib."""

    def savefig(self, out, format):
        assert format == "png"
        out.write(image_of("one", torch.rand(3, 4, 6), FILE).png)


class Shower:
    """Logs one of everything, every ten steps."""

    def step(self, run):
        run.log({"half": 0.5, "deep/er": torch.tensor(2)})
        run.log(
            images={"dots": torch.eye(4)},
            histograms={"steps": torch.arange(run.step)},
            figures={"drawn": Figure()},
            texts={"said": "at <b>\ud800</b> “10”"},
        )


@pytest.fixture
def show(monkeypatch, folder):
    monkeypatch.setitem(registry.callbacks.registered, "Shower", Shower)
    return lambda *words, text=TINY: folder.train(*words, text=watched(text, shower="{name: Shower, every: 10}"))


def test_the_log_of_a_run(show):
    run = show()
    scalars, media = [line for line in run.log if line["step"] == 10]
    assert scalars == {"step": 10, "epoch": 1.25, "shower/half": 0.5, "shower/deep/er": 2.0}
    assert {name: media[name] for name in ("step", "epoch", "images", "texts")} == {
        "step": 10,
        "epoch": 1.25,
        "images": {
            "shower/dots": {"file": "images/shower/dots/10.png", "height": 4, "width": 4},
            "shower/drawn": {"file": "images/shower/drawn/10.png", "height": 4, "width": 6},
        },
        "texts": {"shower/said": "at <b>?</b> “10”"},
    }
    assert sum(media["histograms"]["shower/steps"]["counts"]) == 10
    for image in media["images"].values():
        pixels = decoded((run.folder / image["file"]).read_bytes())
        assert pixels.shape[:2] == (image["height"], image["width"])


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_it(show):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = show()
    found = reading.EventAccumulator(str(run.folder), size_guidance={"images": 0, "histograms": 0, "tensors": 0})
    found.Reload()
    tags = found.Tags()
    assert {"shower/half", "shower/deep/er"} <= set(tags["scalars"])
    (image,) = found.Images("shower/drawn")
    assert (image.step, image.height, image.width) == (10, 4, 6)
    assert decoded(image.encoded_image_string).shape == (4, 6, 3)
    (histogram,) = found.Histograms("shower/steps")
    value = histogram.histogram_value
    assert (value.min, value.max, value.num, value.sum, value.sum_squares) == (0, 9, 10, 45, 285)
    assert (len(value.bucket_limit), sum(value.bucket)) == (64, 10)
    (text,) = found.Tensors("shower/said")
    assert text.tensor_proto.string_val[0].decode() == "at <b>?</b> “10”"
    assert found.SummaryMetadata("shower/said").plugin_data.plugin_name == "text"


class Plain:
    def __init__(self, run):
        self.logged = []

    def log(self, step, values):
        self.logged.append(("numbers", step, dict(values)))

    def close(self, status):
        pass


class Picture(Plain):
    def log_images(self, step, images):
        self.logged.append(("images", step, {name: (image.height, image.file.name) for name, image in images.items()}))

    def log_texts(self, step, texts):
        self.logged.append(("texts", step, dict(texts)))


def test_loggers_get_what_they_take_and_the_rest_is_reported_once(show, folder, monkeypatch):
    made = {}
    for kind in (Plain, Picture):
        name = kind.__name__.lower()
        make = lambda run, kind=kind, name=name: made.setdefault(name, kind(run))  # noqa: E731
        monkeypatch.setitem(registry.loggers.registered, name, make)
    show("trainer.epochs=3", text=TINY + "loggers: {plain: {}, picture: {}}\n")
    at = [logged for logged in made["picture"].logged if logged[1] == 20]
    assert at == [
        ("numbers", 20, {"shower/half": 0.5, "shower/deep/er": 2.0}),
        ("images", 20, {"shower/dots": (4, "20.png"), "shower/drawn": (4, "20.png")}),
        ("texts", 20, {"shower/said": "at <b>?</b> “10”"}),
    ]
    assert {kind for kind, *_ in made["plain"].logged} == {"numbers"}
    said = folder.said.getvalue()
    for name, kinds in {"plain": ("images", "histograms", "texts"), "picture": ("histograms",)}.items():
        for kind in kinds:
            assert said.count(f"the logger `{name}` takes no {kind}: they are in the run folder only") == 1
    assert "the logger `picture` takes no images" not in said


def test_weights_and_biases(show, monkeypatch):
    logged = []
    tracked = SimpleNamespace(
        define_metric=lambda *args, **more: None, log=logged.append, finish=lambda exit_code: None
    )
    module(
        monkeypatch, "wandb", init=lambda **_: tracked, Settings=dict,
        Image=lambda file: ("image", Path(file).is_file()),
        Histogram=lambda np_histogram: ("histogram", sum(np_histogram[0])), Html=lambda text: ("html", text),
    )  # fmt: skip
    show("+loggers.wandb={mode: offline}")
    found = {name: value for values in logged if values["step"] == 10 for name, value in values.items()}
    assert found == {
        "step": 10, "shower/half": 0.5, "shower/deep/er": 2.0, "shower/dots": ("image", True),
        "shower/drawn": ("image", True), "shower/steps": ("histogram", 10),
        "shower/said": ("html", "<pre>at &lt;b&gt;?&lt;/b&gt; “10”</pre>"),
    }  # fmt: skip


def test_mlflow(show, folder, monkeypatch):
    logged = []
    server = SimpleNamespace(
        get_experiment_by_name=lambda name: SimpleNamespace(experiment_id="1"),
        search_runs=lambda *_: [SimpleNamespace(info=SimpleNamespace(run_id="7"))],
        log_batch=lambda number, metrics: None,
        log_artifact=lambda number, file, folder: logged.append((number, Path(file).name, folder)),
        log_text=lambda number, text, file: logged.append((number, text, file)),
        set_terminated=lambda number, status: None,
    )
    entities = SimpleNamespace(Metric=lambda *metric: metric)
    module(monkeypatch, "mlflow", MlflowClient=lambda uri: server, entities=entities)
    show("+loggers.mlflow={}")
    assert logged == [
        ("7", "10.png", "images/shower/dots"),
        ("7", "10.png", "images/shower/drawn"),
        ("7", "at <b>?</b> “10”", "texts/shower/said/10.txt"),
    ]
    assert folder.said.getvalue().count("the logger `mlflow` takes no histograms") == 1


@pytest.mark.parametrize("name", ["", "..", "a/../b", "a//b", "/a", "a/", "a b", "a\n", ".", "a/.", 3, "a\\b"])
def test_names_that_are_no_names_are_refused(show, monkeypatch, name):
    class Bad:
        def step(self, run):
            run.log(images={name: torch.eye(2)})

    monkeypatch.setitem(registry.callbacks.registered, "Shower", Bad)
    with pytest.raises(ValueError, match="a name must consist of letters"):
        show()


def test_the_callbacks_that_flowconf_offers(folder):
    text = TINY.replace("shape: [8]", "shape: [2, 4]").replace("[B, 8]", "[B, 2, 4]")
    text = text.replace("stem: Linear(8, 16)", "flat: Flatten\n    stem: Linear(8, 16)")
    run = folder.train(
        text=watched(
            text,
            pixels="{name: Images, every: 8, read: image, rows: 4, split: val}",
            sizes="{name: Histograms, every: 8, read: [stem, hidden]}",
        )
    )
    lines = [line for line in run.log if line["step"] == 8]
    assert [line["images"] for line in lines if "images" in line] == [
        {"pixels/image": {"file": "images/pixels/image/8.png", "height": 6, "width": 10}}
    ]
    (histograms,) = [line["histograms"] for line in lines if "histograms" in line]
    assert {name: sum(one["counts"]) for name, one in histograms.items()} == {
        "sizes/stem": 32 * 16, "sizes/hidden": 32 * 16,
    }  # fmt: skip
    json.dumps(run.log)
