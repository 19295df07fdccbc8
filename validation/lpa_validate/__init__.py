"""Proof that an exported bundle still transcribes as the model it came from.

    bundle -> open -> run -> compare -> report

Nothing heavy is imported here: ``lpa-validate --help`` has to answer at once.
"""

__all__: list[str] = []
