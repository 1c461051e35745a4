"""A small package of somebody else's, with what packages of models offer."""

from shelf.nets import *  # noqa: F403
from shelf.nets import Net as Net

VERSION = "1.0"
