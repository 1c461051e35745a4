"""Every code of a diagnostic, with the one line that says what it means."""

from __future__ import annotations

CODES: dict[str, str] = {
    # text
    "FC0001": "the file cannot be read",
    "FC0002": "the text is not valid YAML or TOML",
    "FC0003": "a key stands twice in one mapping",
    "FC0004": "a YAML tag is refused",
    "FC0005": "an alias expands too far or contains itself",
    "FC0006": "the text is nested too deeply or holds too many values",
    "FC0007": "a call was cut at a comma inside braces or brackets",
    "FC0008": "a value is text in YAML 1.2 but looks like something else",
    "FC0009": "an interpolation cannot be resolved",
    # composition
    "FC0101": "a config group or one of its options does not exist",
    "FC0102": "an override names a key that does not exist",
    "FC0103": "an override cannot be parsed",
    "FC0104": "the defaults list is not usable",
    "FC0105": "a graph file or group cannot be found",
    "FC0106": "files or graphs include each other in a circle",
    "FC0107": "a config group replaces what the main file says",
    # keys and types
    "FC0121": "an unknown key",
    "FC0122": "a required key is missing",
    "FC0123": "a value has the wrong type or is out of range",
    "FC0124": "a step needs exactly one verb",
    "FC0125": "a key that means nothing for this verb",
    "FC0126": "a name that cannot be used",
    # calls and names
    "FC0131": "a call cannot be parsed",
    "FC0132": "an unknown module",
    "FC0133": "an argument does not fit the module's signature",
    "FC0134": "an unknown parameter in a call",
    # references and structure
    "FC0141": "a reference to a name that does not exist",
    "FC0142": "a name is used twice",
    "FC0143": "a reference that no module argument takes",
    "FC0144": "the flow has no place for this member",
    "FC0145": "this needs more branches",
    "FC0146": "a module without a source of its own",
    "FC0147": "an input of a graph that nothing fills",
    "FC0148": "a forward pass cannot go on",
    "FC0149": "a parameter or input that nothing uses",
    # shapes
    "FC0201": "sizes do not fit",
    "FC0202": "a module cannot be built from its arguments",
    "FC0203": "branches of different shapes cannot be merged",
    "FC0204": "an inferred size has nothing to be inferred from",
    "FC0205": "a loop's body changes the shape it is given",
    "FC0206": "an input does not have the shape it declares",
    "FC0207": "an initial value does not fit its parameter",
    "FC0208": "a member that no exported program can hold",
    # weights
    "FC0301": "a checkpoint cannot be found or read",
    "FC0302": "nothing in a checkpoint matches",
    "FC0303": "tensors are missing from a checkpoint",
    "FC0304": "tensors in a checkpoint are not used",
    "FC0305": "a tensor has another shape in the checkpoint",
    "FC0306": "a checkpoint is not the file it should be",
    # training
    "FC0401": "an unknown loss, metric, optimizer or schedule",
    "FC0402": "a loss or metric refers to something that does not exist",
    "FC0403": "nothing is left to train",
    "FC0404": "stages wait for each other in a circle",
    "FC0405": "an optimizer group or path names nothing",
    "FC0406": "a loss or metric cannot be computed of these values",
    "FC0407": "a member that nothing needs",
    "FC0408": "parameters that no term of the loss trains",
    "FC0409": "a frozen part whose weights come from nowhere",
    "FC0410": "a setting that changes nothing",
    # data
    "FC0501": "an unknown data set or argument",
    "FC0502": "the data set and the graph do not fit",
    # environment and runs
    "FC0601": "something the machine lacks",
    "FC0701": "a path that does not exist in the graph",
    "FC0702": "a run failed",
}
