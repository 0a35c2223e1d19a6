"""A small KServe-v2 server on ONNX Runtime and OpenVINO that runs Triton's model repositories by Triton's rules."""

import os

# gRPC's core reads this when it is loaded. It writes a line about each of some kinds of bad messages, and a client can
# send those as fast as it likes.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
