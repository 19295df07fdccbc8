"""Which execution providers would take which part of an ONNX graph: predictions, never runs.

    model + one input -> ConcreteGraph -> conditions of a provider -> partitions -> coverage

"Supported by the accelerator" is not "runs on the accelerator": every figure from here is
labelled *predicted*.
"""

__all__: list[str] = []
