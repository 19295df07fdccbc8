"""Takes trained Learnable Pulse Accumulator speech models to the devices people hold.

The method is public as arXiv:2603.16922; its equations and code are not, so the formulation in
``lpa_export.layers`` is this project's own. Importing this package imports nothing heavy: torch,
onnx and transformers are loaded by the modules that use them.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
