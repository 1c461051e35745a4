"""The contrast of what a page shows: at least 4.5 for texts, and 3 for lines and large texts."""

from __future__ import annotations

from pathlib import Path

SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8").partition("\n")[2].strip()


def low_contrast(tab) -> dict[str, float]:
    """The texts of a page whose contrast with what is behind them is too low, with their ratio."""
    return tab.evaluate(f"() => {SCRIPT}.lowTexts()")


def contrast(tab, one: str, other: str) -> float:
    """The ratio of two colours of the style, such as `ink` and `ground`."""
    return tab.evaluate(f"([one, other]) => {SCRIPT}.ofColours(one, other)", [one, other])
