"""What a run saves twice, so that a file which a power cut has torn costs no more than the work since the last save.

The state that a training goes on from is kept with the one before it; the best weights, which no later epoch could
bring back, are kept with a copy. Both are dropped when the run is finished.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.errors import DataError, ModelError, StorageError
from nanocv_cli.files import AGAIN, write_bytes
from nanocv_cli.models.checkpoint import load_tensors, save_weights
from nanocv_cli.training.learner import load_training, save_training
from nanocv_cli.training.run_directory import RunDirectory
from nanocv_cli.training.state import TrainingState

Groups = dict[str, dict[str, Tensor]]
Say = Callable[[str], None]


def save_state(run: RunDirectory, groups: Groups, state: TrainingState) -> None:
    """Saves where a training stands, see `save_training`; the save before stays as `previous`.

    Raises:
        StorageError: it cannot be written; the two before are as they were.
    """
    save_training(run.last, groups, state, run.previous)


def newest_state(run: RunDirectory, say: Say) -> tuple[Groups, TrainingState]:
    """The last state that is whole; one that is not is replaced by the one before, which is said.

    Raises:
        ModelError: neither is whole.
    """
    try:
        return load_training(run.last)
    except ModelError as torn:
        try:
            groups, state = load_training(run.previous)
        except ModelError:
            weights = f", --from {run.best} perhaps" if run.best.is_file() else ""
            hint = f"no state of this run can be read: start a new one{weights}"
            raise ModelError(torn.message, hint) from torn
        what = torn.message if run.last.exists() else f"{run.last} was just being replaced"
        say(f"note: {what}; the run goes on from the save before, in epoch {state.epoch + 1}")
        run.previous.replace(run.last)
        return groups, state


def save_best(run: RunDirectory, weights: dict[str, Tensor], card: ModelCard) -> None:
    """Keeps weights as the run's best, and their copy.

    Raises:
        StorageError: they cannot be written; one of the two is as it was.
    """
    save_weights(run.best, weights, card)
    write_bytes(run.best_copy, run.best.read_bytes())


def mend_best(run: RunDirectory, say: Say) -> None:
    """Puts the best weights back from their copy, where they are not whole, which is said.

    Raises:
        ModelError: neither is whole.
    """
    try:
        load_tensors(run.best)
    except ModelError as torn:
        try:
            load_tensors(run.best_copy)
        except ModelError:
            raise ModelError(torn.message, f"start a new run, --from {run.last} perhaps") from torn
        write_bytes(run.best, run.best_copy.read_bytes())
        say(f"note: {torn.message}; put back from its copy")


def expect_same_images(run: RunDirectory, state: TrainingState, counts: dict[str, int]) -> None:
    """Makes sure that a run goes on with as many readable images of each split as it began with; a new one notes them.

    Raises:
        DataError: some became unreadable, or readable: what follows would not be the run that was begun.
    """
    for split, count in counts.items():
        begun = state.images.setdefault(split, count)
        if begun != count:
            raise DataError(
                f"{count} images of {split} can be read, and {run.path} began with {begun}",
                "bring them back as they were (nanocv data check names those that cannot be read), "
                f"then nanocv train --resume {run.path}; or start a new run",
            )


@contextmanager
def telling_how_to_go_on(run: RunDirectory) -> Iterator[None]:
    """Failures of files and of data inside the block say how this run goes on, where it is there to go on with."""
    try:
        yield
    except (DataError, StorageError) as failure:
        if run.outlives_failure and "--resume" not in failure.hint:
            resume = f"nanocv train --resume {run.path}"
            known = failure.hint
            failure.hint = known.replace(AGAIN, resume) if AGAIN in known else f"{known}; then {resume}"
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        again = f"nanocv train --resume {run.path}" if run.outlives_failure else AGAIN
        raise StorageError(
            f"{where}{error.strerror or error}", f"check permissions and free space, then {again}"
        ) from error
