"""fastText files, ONNX, and the PyTorch module of the same function."""
