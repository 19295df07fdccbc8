"""Folding: what a hard LPA layer becomes at inference, as pure functions and small modules.

`windows` and `prefix_sum` and `band` hold tensor functions and import nothing of the project
(the layer itself uses the first two); `fold` and `harden` work on layers.
"""
