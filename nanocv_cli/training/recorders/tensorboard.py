"""TensorBoard's event files, by the writer that torch has for them; TensorFlow is not needed."""

from torch.utils.tensorboard import SummaryWriter

from nanocv_cli.config.yaml_lines import dump_yaml
from nanocv_cli.images.resize import open_image
from nanocv_cli.training.recorders.tracker import Outcome, Results, Row, Tracker, scalars


class TensorBoardFiles(Tracker):
    """Event files in the run's folder `tensorboard`, rebuilt whenever the story is told again."""

    def begin(self) -> str:
        folder = self.subject.folder / "tensorboard"
        for earlier in folder.glob("events.out.tfevents.*"):
            earlier.unlink()
        # A viewer that is open forgets what the removed files told, from the first epoch on.
        self._writer = SummaryWriter(str(folder), purge_step=1)
        config = dump_yaml(self.subject.config.model_dump(mode="json"))
        self._writer.add_text("config", "\n".join(f"    {line}" for line in config.splitlines()), 1)
        return ""

    def add_epoch(self, row: Row) -> None:
        for name, value in scalars(row):
            self._writer.add_scalar(name, value, row["epoch"], walltime=row.get("time"))
        self._writer.flush()

    def add_results(self, results: Results) -> None:
        for name, value in results.scalars():
            self._writer.add_scalar(name, value, results.epoch)
        for path in results.images:
            self._writer.add_image(f"images/{path.stem}", open_image(path), results.epoch, dataformats="HWC")
        self._writer.flush()

    def end(self, outcome: Outcome) -> str:
        self._writer.close()
        return ""
