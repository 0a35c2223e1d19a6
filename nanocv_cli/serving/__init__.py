"""Triton model repositories and the servers that run them: no torch."""

import os

# gRPC's core reads this when it is loaded, which reading a repository's configs does already. It writes a line about
# each of some kinds of bad messages, and a client of a server can send those as fast as it likes.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
