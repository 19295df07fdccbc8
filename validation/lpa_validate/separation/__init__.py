"""Bundles that separate or enhance speech: what is validated is audio out."""
