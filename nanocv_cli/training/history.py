"""What a run leaves for readers: DVCLive files for `dvc metrics` and `dvc plots`, and the curves as an image."""

import logging
from pathlib import Path
from typing import Any

from dvclive import Live
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nanocv_cli.charts import save_chart
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
        history: one row per evaluated epoch.
        live: name of the score while training.
        score: what the epochs are evaluated by.
        path: PNG to write.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    scores = live if live == score.name else f"{score.name} (val), {live} (train)"
    for axes, kind, label in zip(figure.subplots(1, 2), ("loss", "score"), ("loss", scores), strict=True):
        for split, colour in (("train", "tab:blue"), ("val", "tab:orange")):
            values = [row[f"{split}_{kind}"] for row in history]
            if None not in values:
                axes.plot(epochs, values, color=colour, marker=".", label=split)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend()
    kept = history[-1] if score.last_is_best else max(history, key=lambda row: row["val_score"])
    word = "last" if score.last_is_best else "best"
    figure.suptitle(f"{word} val {score.name} {kept['val_score']:.2%} in epoch {kept['epoch']}")
    save_chart(figure, path)
