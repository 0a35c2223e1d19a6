"""A small KServe-v2 server on ONNX Runtime that runs Triton's model repositories by Triton's rules."""
