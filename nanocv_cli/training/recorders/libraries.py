"""The trackers that `train.log` may name, and the library that each is spoken to by; none is imported here."""

from dataclasses import dataclass, field
from importlib.util import find_spec

from nanocv_cli.errors import MissingExtraError


@dataclass(frozen=True)
class Library:
    """Where a tracker is spoken to.

    Attributes:
        tracker: path of the class.
        package: that it imports.
        extra: which installs that.
        may_wait: whether its calls may take long or fail, so that they are made beside the training, not within it.
        environment: what the library is told where the user has set nothing.
    """

    tracker: str
    package: str
    extra: str
    may_wait: bool = True
    environment: dict[str, str] = field(default_factory=dict)


LIBRARIES = {
    "dvclive": Library("nanocv_cli.training.recorders.dvclive:DvcLiveFiles", "dvclive", "train", may_wait=False),
    "tensorboard": Library("nanocv_cli.training.recorders.tensorboard:TensorBoardFiles", "tensorboard", "tensorboard"),
    "mlflow": Library(
        "nanocv_cli.training.recorders.mlflow:MlflowRun",
        "mlflow",
        "mlflow",
        environment={
            # A request that hangs is given up soon, for the story is told again later.
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ALLOW_FILE_STORE": "true",
        },
    ),
    "wandb": Library(
        "nanocv_cli.training.recorders.wandb:WandbRun",
        "wandb",
        "wandb",
        environment={"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"},
    ),
}


def expect_installed(names: tuple[str, ...]) -> None:
    """Makes sure that the libraries of trackers are here, without importing them.

    Raises:
        MissingExtraError: one is not.
    """
    for name in names:
        library = LIBRARIES[name]
        if find_spec(library.package) is None:
            raise MissingExtraError(
                f"train.log names {name}, which needs the package {library.package}",
                f"pip install 'nanocv[{library.extra}]'",
            )
