"""The public names: listed by `dir`, imported when first used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import flowconf


def test_dir_shows_the_public_names():
    assert dir(flowconf) == sorted([*flowconf.__all__, "__version__"])


def test_dir_imports_nothing():
    code = (
        "import sys, flowconf; assert 'build' in dir(flowconf); "
        "assert not {'torch', 'hydra', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", flowconf.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(flowconf, name).__doc__


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="`flowconf` has no attribute `biuld`"):
        flowconf.biuld  # noqa: B018
