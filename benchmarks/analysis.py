"""How far the predicted time is from the measured one, on this machine, for models of all kinds.

python -m benchmarks.analysis            # torch on the CPU, fp32
python -m benchmarks.analysis --device cuda --dtype fp16
"""

import argparse
import statistics
import warnings
from pathlib import Path

import torch

from nanocv_cli.analysis.analysed_model import Query, analyse, find_analysed_model
from nanocv_cli.analysis.local import local_peaks
from nanocv_cli.analysis.measure_torch import measure_torch
from nanocv_cli.analysis.roofline import Roofline, point

MODELS = (
    "lenet", "nanores", "resnet18", "resnet50", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "vit_b_16",
    "swin_t", "densenet121", "lraspp_mobilenet_v3_large", "squeezenet1_1",
)  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--device", default="cpu")
    options.add_argument("--dtype", default="fp32")
    options.add_argument("--batch-size", type=int, default=1)
    chosen = options.parse_args()
    warnings.filterwarnings("ignore")
    device = torch.device(chosen.device)
    gpu = local_peaks(device, Path(".cache"), print)
    roofline = Roofline(gpu, chosen.dtype)
    print(f"{gpu.title}, {chosen.dtype}, batch {chosen.batch_size}; times in ms, median error of a layer")
    print(f"{'model':28} {'predicted':>9} {'measured':>9} {'pred/meas':>9} {'layer error':>11}")
    ratios = []
    for name in MODELS:
        analysed = find_analysed_model(Query(name, classes=None if name not in ("lenet", "nanores") else 4), Path.cwd())
        model = analyse(analysed)
        at = point(model, roofline, chosen.batch_size)
        found = measure_torch(analysed, model, device, chosen.dtype, chosen.batch_size)
        ratios.append(at.seconds / found.seconds)
        print(
            f"{name:28} {at.seconds * 1e3:9.2f} {found.seconds * 1e3:9.2f} {ratios[-1]:9.2f} "
            f"{found.median_layer_error(at):11.0%}"
        )
    print(f"{'median':28} {'':9} {'':9} {statistics.median(ratios):9.2f}")


if __name__ == "__main__":
    main()
