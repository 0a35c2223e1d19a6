"""What a run leaves for readers: DVCLive files for `dvc metrics` and `dvc plots`, and the curves as a picture."""

import logging
from pathlib import Path
from typing import Any

from dvclive import Live
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nanocv_cli.files import atomic_path
from nanocv_cli.tasks.base import Score

Row = dict[str, Any]
LOGGED = ("train_loss", "train_score", "val_loss", "val_score", "learning_rate", "images_per_second")


class DvcLog:
    """DVCLive's files, rebuilt from the history: after a resume they hold each epoch exactly once.

    Args:
        folder: of the files (`metrics.json`, `plots/`).
        history: epochs finished before.
    """

    def __init__(self, folder: Path, history: list[Row]) -> None:
        logging.getLogger("dvclive").setLevel(logging.ERROR)
        # No experiment, no report, no dvc.yaml: only the metric files, and nothing leaves the machine.
        self._live = Live(str(folder), save_dvc_exp=False, report=None, dvcyaml=None, monitor_system=False)
        for row in history:
            self.add(row)

    def add(self, row: Row) -> None:
        """Logs one finished epoch."""
        for name in LOGGED:
            if row[name] is not None:
                self._live.log_metric(name, row[name])
        self._live.next_step()

    def finish(self, metrics: dict[str, Any]) -> None:
        """Adds the final figures of the held-out split to the summary."""
        for name, value in metrics.items():
            if isinstance(value, int | float):
                self._live.log_metric(f"final/{name}", value, plot=False)
        self._live.make_summary()


def draw_curves(history: list[Row], live: str, score: Score, path: Path) -> None:
    """Draws loss and score of train and val over the epochs as one PNG.

    Args:
        history: one row per judged epoch.
        live: name of the score while training.
        score: what the epochs are judged by.
        path: PNG to write.
    """
    train, val = ("train", "tab:blue"), ("val", "tab:orange")
    panels: list[tuple[str, str, tuple[tuple[str, str], ...]]] = [("loss", "loss", (train, val))]
    if score.least_is_best:  # a distance and a share have no axis in common
        panels += [(live, "score", (train,)), (score.name, "score", (val,))]
    else:
        shares = live if live == score.name else f"{score.name} (val), {live} (train)"
        panels += [(shares, "score", (train, val))]
    figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, (label, kind, splits) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for split, colour in splits:
            values = [row[f"{split}_{kind}"] for row in history]
            if None not in values:
                axes.plot(epochs, values, color=colour, marker=".", label=split)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend()
    best = [row for row in history if row["is_best"]][-1]
    figure.suptitle(f"best val {score.name} {score.text(best['val_score'])} in epoch {best['epoch']}")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
