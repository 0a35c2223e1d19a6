"""What a run tells of its epochs: a line for each, and the curves as an image."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nanocv_cli.files import save_chart, write_json
from nanocv_cli.output import finite
from nanocv_cli.rooms import Score
from nanocv_cli.training.recorders.tracker import Row


def write_history(history: list[Row], live: str, path: Path) -> None:
    """Keeps the evaluated epochs where the run's report reads them.

    Args:
        history: one row per evaluated epoch.
        live: name of the score while training.
        path: JSON to write, atomically.
    """
    write_json(path, finite({"live": live, "epochs": history}))


def epoch_line(row: Row, epochs: int, live: str, score: Score) -> str:
    """An evaluated epoch as one line for people.

    Args:
        row: of the epoch.
        epochs: in all.
        live: name of the score while training.
        score: what the epochs are evaluated by.
    """
    mark = "  best" if row["is_best"] else ""
    loss = "" if row["val_loss"] is None else f"  val loss {row['val_loss']:.4f}"
    return (
        f"epoch {row['epoch']:>3}/{epochs}  loss {row['train_loss']:.4f}  {live} {score.shown(row['train_score'])}"
        f"{loss}  val {score.name} {score.shown(row['val_score'])}"
        f"  {row['images_per_second']:.0f} images/s  {row['seconds']:.0f} s{mark}"
    )


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
    kept = [row for row in history if row["is_best"]][-1]
    word = "last" if score.last_is_best else "best"
    figure.suptitle(f"{word} val {score.name} {score.shown(kept['val_score'])} in epoch {kept['epoch']}")
    save_chart(figure, path)
