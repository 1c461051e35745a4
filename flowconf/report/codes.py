"""The codes of diagnostics, each with a one-line description."""

from __future__ import annotations

CODES: dict[str, str] = {
    # text
    "FC0001": "the file cannot be read",
    "FC0002": "the text is not valid YAML or TOML",
    "FC0003": "duplicate key in a mapping",
    "FC0004": "a YAML tag is not allowed",
    "FC0005": "an alias expands too far or contains itself",
    "FC0006": "the text is nested too deeply or has too many values",
    "FC0007": "a call is split at a comma inside braces or brackets",
    "FC0008": "a value is a string in YAML 1.2 but looks like another type",
    "FC0009": "an interpolation cannot be resolved",
    # composition
    "FC0101": "unknown config group or option",
    "FC0102": "an override of an unknown key",
    "FC0103": "an override cannot be parsed",
    "FC0104": "invalid defaults list",
    "FC0105": "graph file or group not found",
    "FC0106": "circular include of files or graphs",
    "FC0107": "a config group overrides a value of the main file",
    "FC0108": "a Hydra setting that is not allowed",
    "FC0109": "the modules of a project are not imported",
    # keys and types
    "FC0121": "unknown key",
    "FC0122": "missing required key",
    "FC0123": "a value has the wrong type or is out of range",
    "FC0124": "a step requires exactly one verb",
    "FC0125": "a key that does not apply to this verb",
    "FC0126": "invalid name",
    # calls and names
    "FC0131": "a call cannot be parsed",
    "FC0132": "unknown module",
    "FC0133": "an argument does not match the module's signature",
    "FC0134": "unknown parameter in a call",
    # references and structure
    "FC0141": "reference to an unknown name",
    "FC0142": "duplicate name",
    "FC0143": "a reference that the module does not take as an argument",
    "FC0144": "invalid position of a step",
    "FC0145": "too few branches",
    "FC0146": "a module object cannot be written to a file",
    "FC0147": "an input of a graph has no value",
    "FC0148": "a forward pass failed",
    "FC0149": "unused parameter or input",
    # shapes
    "FC0201": "size mismatch",
    "FC0202": "a module cannot be built from its arguments",
    "FC0203": "branches of different shapes cannot be merged",
    "FC0204": "a size cannot be inferred",
    "FC0205": "the body of a loop changes the shape",
    "FC0206": "an input does not have its declared shape",
    "FC0207": "an initial value does not match its parameter",
    "FC0208": "a step cannot be exported",
    # weights
    "FC0301": "a checkpoint cannot be found or read",
    "FC0302": "no tensor of a checkpoint matches",
    "FC0303": "tensors are missing from a checkpoint",
    "FC0304": "unused tensors in a checkpoint",
    "FC0305": "a tensor has a different shape in the checkpoint",
    "FC0306": "checksum mismatch of a checkpoint",
    # training
    "FC0401": "unknown loss, metric, optimizer or schedule",
    "FC0402": "a loss or metric refers to an unknown value",
    "FC0403": "nothing to train",
    "FC0404": "circular dependency of stages",
    "FC0405": "a selector that selects nothing",
    "FC0406": "a loss or metric cannot be computed from these values",
    "FC0407": "unused step",
    "FC0408": "parameters that no term of the loss trains",
    "FC0409": "a frozen part without weights",
    "FC0410": "a setting without effect",
    # data
    "FC0501": "unknown data set, or invalid arguments",
    "FC0502": "the data set does not match the graph",
    "FC0503": "a value of the data makes a loss or metric not finite",
    # environment and runs
    "FC0601": "missing requirement of the machine",
    "FC0602": "a file exists that would be overwritten",
    "FC0701": "unknown path in the graph",
    "FC0702": "a run failed",
}
