"""Separators in their runtimes: the protocol of `Runner`, with audio out.

What it calls logits (valid frames, vocabulary) are waveforms here, (samples, sources); the last tap
has them too, under the name of `sources`.
"""
