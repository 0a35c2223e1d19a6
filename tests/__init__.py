"""Tests mirror nanocv_cli/. Each process has one thread for arithmetic: two workers do not fight for two cores."""

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # read once, when numpy and torch are imported
