"""Error reporting: places, codes, diagnostics, the reporter that collects them, and their renderers.

This is the lowest layer: it imports no other part of flowconf, and every other part may import it.
"""

from flowconf.report.arguments import texts
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
from flowconf.report.foreign_json import from_json, read_json
from flowconf.report.grouping import AND_HERE, MOST, grouped
from flowconf.report.origins import Origins, Path, dotted
from flowconf.report.places import NOWHERE, Place, read_from, shell_word, shown_path
from flowconf.report.raised import first_line, is_own_file, raised_at, raised_here
from flowconf.report.renderers import as_dict, render_github, render_json, render_plain
from flowconf.report.reporter import Reporter
from flowconf.report.streams import drawn, json_line, prints_aside, safe_streams, write_drawn
from flowconf.report.suggestion import Advice, Available, Suggestion, suggest
from flowconf.report.terminal import render_text, wants_colour
from flowconf.report.wording import (
    FEW,
    bytes_in_words,
    counted,
    dtype_name,
    joined,
    listing,
    nearest,
    nearest_of,
    printable,
    printable_lines,
    shortened,
)
