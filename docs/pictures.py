"""Makes the pictures of the documentation: `python docs/pictures.py` (needs the extra `dev`, Graphviz and Chromium).

Each is what the commands give: the still picture of the letter reader, the page of a graph, of a mistake and of a run.
"""

from __future__ import annotations

import shutil
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from flowconf.cli.main import main as flowconf

DOCS = Path(__file__).parent
CONFIGS = DOCS.parent / "configs"
SIZE = {"width": 1280, "height": 800}
COLOURS = 192


def make(folder: Path) -> dict[str, str]:
    """Write the pages into a folder with the configs; page -> the part of its address that keeps the view."""
    flowconf(["draw", "configs/fbrl_word.yaml", "-o", "map.html"])
    wrong = Path("configs/digits.yaml").read_text(encoding="utf-8").replace("Linear(width, 10)", "Linear(100, 10)")
    Path("configs/wrong.yaml").write_text(wrong, encoding="utf-8")
    flowconf(["check", "configs/wrong.yaml", "--draw", "mistake.html"])
    flowconf(["train", "configs/digits.yaml", "trainer.runs=runs"])
    report = next(folder.glob("runs/**/report.html"))
    shutil.copy(report, "report.html")
    return {"map": "at=scan.think", "mistake": "", "report": ""}


def photograph(pages: dict[str, str], folder: Path) -> None:
    """Save what a browser shows of each page, in few colours."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for page, address in pages.items():
            tab = browser.new_page(viewport=SIZE)
            tab.goto(f"{(folder / page).as_uri()}.html#{address}")
            shown = Image.open(BytesIO(tab.screenshot())).convert("RGB")
            shown.quantize(COLOURS, dither=Image.Dither.NONE).save(DOCS / f"{page}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    import os

    flowconf(["draw", str(CONFIGS / "graph/fbrl/letter.yaml"), "-o", str(DOCS / "letter.svg")])
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(CONFIGS, Path(name) / "configs")
        os.chdir(name)
        photograph(make(Path(name)), Path(name))
