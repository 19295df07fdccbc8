"""Which accelerator would take which part of a graph: predictions, never runs.

    ONNX model + one input -> ConcreteGraph -> conditions of a provider -> partitions -> coverage
    Core ML program -> rules of the Neural Engine -> runs and placement (``neural_engine``)

"Supported by the accelerator" is not "runs on the accelerator": every figure from here is
labelled *predicted*. Only ``compute_plan`` asks Core ML itself, on macOS.
"""

__all__: list[str] = []
