"""How mistakes are reported: places, codes, diagnostics, the reporter that gathers them, and their renderers.

This is the ground floor: it imports nothing else of flowconf, and every other part may import it.
"""

from flowconf.report.codes import CODES
from flowconf.report.diagnostic import Diagnostic, Fix, Label
from flowconf.report.errors import (
    ConfigError,
    FlowconfError,
    MachineError,
    PathError,
    RunError,
    StepError,
    of_system,
    why_not,
)
from flowconf.report.places import NOWHERE, Place, shown_path
from flowconf.report.renderers import as_dict, render_github, render_json, render_plain
from flowconf.report.reporter import AND_HERE, MOST, Reporter
from flowconf.report.terminal import render_text, wants_colour
from flowconf.report.wording import FEW, nearest, printable, suggest

__all__ = [
    "AND_HERE",
    "CODES",
    "FEW",
    "MOST",
    "NOWHERE",
    "ConfigError",
    "Diagnostic",
    "Fix",
    "FlowconfError",
    "Label",
    "MachineError",
    "PathError",
    "Place",
    "Reporter",
    "RunError",
    "StepError",
    "as_dict",
    "nearest",
    "of_system",
    "printable",
    "render_github",
    "render_json",
    "render_plain",
    "render_text",
    "shown_path",
    "suggest",
    "wants_colour",
    "why_not",
]
