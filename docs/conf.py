"""Sphinx configuration. A name in single backticks must be one of ours, or Python's."""

import builtins
import sys
from importlib.metadata import version as installed

project = "llmevents"
author = "The llmevents developers"
release = installed("llmevents")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
default_role = "any"
nitpicky = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
napoleon_use_ivar = True  # fields of a NamedTuple are documented as members already
myst_heading_anchors = 3
exclude_patterns = ["_build"]

# Python's own names and those of libraries: linking them would take inventories from
# the network, which a build must do without.
ELSEWHERE = {
    *sys.stdlib_module_names,
    *dir(builtins),
    "blinker",
    "opentelemetry",
    "pytest",
    "structlog",
    "with",
    "wrapt",
}


def resolve(app, env, node, contnode):
    """Leave names from elsewhere, and private types in signatures, as they are."""
    is_annotation = node.get("reftype") in {"class", "data", "obj", "exc"}
    is_elsewhere = node.get("reftarget", "").split(".")[0] in ELSEWHERE
    return contnode if is_annotation or is_elsewhere else None


def setup(app):
    app.connect("missing-reference", resolve)
