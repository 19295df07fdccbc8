"""The report as one page that needs no network and runs no script."""

from lpa_validate.renderers.html.page import render_html, render_pages

__all__ = ["render_html", "render_pages"]
