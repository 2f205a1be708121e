"""How Sphinx makes the documentation: ``make docs``."""

from securerecv import __version__

project = "securerecv"
author = "the securerecv authors"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "A secure receiver of messages and files"}
html_show_sourcelink = False
html_copy_source = False
# Markdown's own anchors for headings, as in links within the protocol.
myst_heading_anchors = 3
autodoc_member_order = "bysource"
# As written: one of them is the environment of whoever makes the documentation.
autodoc_preserve_defaults = True
# Types are in the signatures.
autodoc_typehints = "signature"
# Single backticks name something in the code.
default_role = "literal"
