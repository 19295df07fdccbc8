"""Which nodes of an ONNX graph mobile execution providers take: predicted from op lists."""
