"""A small KServe-v2 server on ONNX Runtime and OpenVINO that runs Triton's model repositories by Triton's rules."""
