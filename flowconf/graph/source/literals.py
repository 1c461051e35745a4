"""Writes strings of a document as Python literals; the only way for them to enter generated source."""

from __future__ import annotations


def quoted(text: str) -> str:
    r"""`text` as a Python string in double quotes, on one line, that evaluates to `text` again.

    Example:
        >>> print(quoted('say "hi"\n'))
        "say \"hi\"\n"
    """
    return f'"{_escaped(text)}"'


def docstring(text: str) -> str:
    '''`text` as a docstring of one line, in three double quotes.

    Example:
        >>> print(docstring('The graph `letter`.'))
        """The graph `letter`."""
    '''
    return f'"""{_escaped(text)}"""'


def _escaped(text: str) -> str:
    return "".join(_letter(letter) for letter in text)


def _letter(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    return letter if letter.isprintable() else repr(letter)[1:-1]
