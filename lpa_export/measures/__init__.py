"""Figures: of arrays, of transcripts, and how far they could be chance."""
