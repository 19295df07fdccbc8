"""The report, and sounds to listen to, as pages that need no network and run no script."""

from lpa_validate.renderers.html.listening import render_listening
from lpa_validate.renderers.html.page import render_html, render_pages

__all__ = ["render_html", "render_listening", "render_pages"]
