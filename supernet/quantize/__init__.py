"""The mathematics of quantization: pure functions over tensors, no modules."""
