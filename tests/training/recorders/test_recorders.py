"""Trackers by their real libraries: what they are told, once each, whether they answer or not."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import util
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import cast, get_args

import pytest
from PIL import Image

from nanocv_cli.config.loader import resolve
from nanocv_cli.config.schema import TrainConfig
from nanocv_cli.models.checkpoint import read_card
from nanocv_cli.training.context import TrainContext
from nanocv_cli.training.recorders import background
from nanocv_cli.training.recorders.background import BackgroundTracker
from nanocv_cli.training.recorders.libraries import LIBRARIES
from nanocv_cli.training.recorders.recorders import Recorders
from nanocv_cli.training.recorders.tracker import Results, Row, Subject, Tracker
from nanocv_cli.training.run_directory import RunDirectory
from tests.conftest import TINY, Command, TrainedRun, run_nanocv
from tests.training.recorders.mlflow_server import Behaviour, mlflow_server
from tests.training.recorders.recorded import Curves, mlflow_run, tensorboard_curves, wandb_curves, wandb_records
from tests.training.weights import same_weights

EXTRAS = ("tensorboard", "mlflow", "wandb")
missing = [name for name in EXTRAS if util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def row(epoch: int) -> Row:
    return {
        "epoch": epoch, "train_loss": 1 / epoch, "train_score": 0.5, "val_loss": None, "val_score": epoch / 10,
        "learning_rate": 0.001, "images_per_second": 10.0, "time": 1_700_000_000.0 + epoch,
    }  # fmt: skip


def val_scores(*epochs: int) -> list[tuple[int, float]]:
    return [(epoch, pytest.approx(epoch / 10)) for epoch in epochs]


@pytest.fixture(autouse=True)
def library_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in EXTRAS:
        for key, value in LIBRARIES[name].environment.items():
            monkeypatch.setenv(key, value)
    for key in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture
def subject(project: Path) -> Subject:
    folder = project / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("data: {}\n")
    Image.new("RGB", (20, 10), (200, 0, 0)).save(folder / "curves.png")
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "checkpoints" / "best.safetensors").write_bytes(b"weights")
    return Subject(folder, project, resolve(overrides=["model.name=mine"]).config, "0123456789abcdef")


def tell(tracker: Tracker, epochs: int) -> None:
    tracker.begin()
    for epoch in range(1, epochs + 1):
        tracker.add_epoch(row(epoch))


def curves_of(name: str, subject: Subject) -> Curves:
    if name == "tensorboard":
        return tensorboard_curves(subject.folder / "tensorboard")[0]
    if name == "mlflow":
        return mlflow_run((subject.root / "mlruns").as_uri())[1]
    return wandb_curves(subject.folder / "wandb")


@pytest.mark.slow(4)
@pytest.mark.parametrize("name", EXTRAS)
def test_a_story_told_again_is_recorded_once(name: str, subject: Subject) -> None:
    make = resolve_name(LIBRARIES[name].tracker)
    interrupted = make(subject)
    tell(interrupted, 2)
    interrupted.end("interrupted")
    resumed = make(subject)
    tell(resumed, 3)
    resumed.add_results(Results(3, {"top1": 0.75, "per_class": {"a": 1}}, (subject.folder / "curves.png",)))
    resumed.add_model(subject.folder / "model.onnx", subject.folder / "checkpoints" / "best.safetensors")
    resumed.end("finished")
    curves = curves_of(name, subject)
    assert curves["val_score"] == val_scores(1, 2, 3)
    assert "val_loss" not in curves


@pytest.fixture(scope="module")
def everywhere(trained: TrainedRun) -> Iterator[Path]:
    """The training of `trained` again, recorded everywhere; a proxy makes sure that nobody is asked over a network."""
    strangers: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def _refuse(self) -> None:
            strangers.append(self.path)
            self.send_error(502)

        do_CONNECT = do_GET = do_POST = _refuse

        def log_message(self, *arguments: object) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, args=(0.01,), daemon=True).start()
    root = trained.folder.parent
    sets = [*TINY, "train.epochs=6", "train.log=[dvclive,tensorboard,mlflow,wandb]"]
    with pytest.MonkeyPatch.context() as patch:
        for key in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            patch.setenv(key, f"http://127.0.0.1:{proxy.server_port}")
            patch.setenv(key.lower(), f"http://127.0.0.1:{proxy.server_port}")
        patch.setenv("WANDB_MODE", "offline")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(root)
        options = [word for pair in sets for word in ("--set", pair)]
        done = run_nanocv(
            "train", "--data", trained.data, "--model", "lenet", *options, "--out", "everywhere", "--json"
        )
    proxy.shutdown()
    proxy.server_close()
    assert done.code == 0, done.err
    assert done.document["run"] == "everywhere"
    assert "warning" not in done.err
    assert not strangers
    yield root / "everywhere"


@pytest.mark.slow(10)
def test_recording_changes_nothing_that_is_learnt(everywhere: Path, trained: TrainedRun) -> None:
    for name in ("best", "last"):
        checkpoint = f"checkpoints/{name}.safetensors"
        assert same_weights(everywhere / checkpoint, trained.folder / checkpoint)
    cards = [read_card(run / "checkpoints" / "best.safetensors") for run in (everywhere, trained.folder)]
    assert cards[0].config_hash == cards[1].config_hash
    assert cards[0].config == cards[1].config


@pytest.mark.slow(10)
def test_tensorboard_has_curves_images_and_the_config(everywhere: Path) -> None:
    curves, images = tensorboard_curves(everywhere / "tensorboard")
    assert [step for step, _ in curves["val_loss"]] == [1, 2, 3, 4, 5, 6]
    assert curves["final/top1"][0][0] == 6
    assert images == ["images/curves", "images/confusion"]
    (events,) = (everywhere / "tensorboard").iterdir()
    assert b"judge_every: 1" in events.read_bytes()


@pytest.mark.slow(10)
def test_mlflow_has_curves_params_and_files(everywhere: Path) -> None:
    run, curves = mlflow_run((everywhere.parent / "mlruns").as_uri())
    assert [step for step, _ in curves["val_loss"]] == [1, 2, 3, 4, 5, 6]
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "everywhere"
    assert run.data.params["train.epochs"] == "6"
    assert run.data.metrics["final/top1"] >= 0.9
    (artifacts,) = everywhere.parent.glob("mlruns/*/*/artifacts")
    files = {str(path.relative_to(artifacts)) for path in artifacts.rglob("*") if path.is_file()}
    assert files == {"config.yaml", "images/curves.png", "images/confusion.png", "model/model.onnx",
                     "model/best.safetensors"}  # fmt: skip
    assert (artifacts / "model" / "model.onnx").read_bytes() == (everywhere / "model.onnx").read_bytes()


@pytest.mark.slow(10)
def test_wandb_has_curves_config_and_files(everywhere: Path) -> None:
    assert [step for step, _ in wandb_curves(everywhere / "wandb")["val_loss"]] == [1, 2, 3, 4, 5, 6]
    records = wandb_records(everywhere / "wandb")
    run = next(record.run for record in records if record.HasField("run"))
    assert (run.display_name, run.project) == ("everywhere", "nanocv")
    assert {item.key for item in run.config.update} >= {"data", "model", "train"}
    (files,) = everywhere.glob("wandb/offline-run-*/files")
    assert (files / "model.onnx").read_bytes() == (everywhere / "model.onnx").read_bytes()
    assert len(list(files.glob("media/images/images/*.png"))) == 2


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow at once, and a request that hangs is given up in a second."""
    monkeypatch.setattr(background, "LONGEST_PAUSE", 0.05)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")


@pytest.mark.slow(3)
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("trouble", ["fails", "loses", "hangs"])
def test_a_server_that_comes_back_has_everything_once(
    trouble: str, subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")  # an answer that is slow on a busy machine is no trouble
    behaviour, recorded, warned, recovered = Behaviour(), threading.Event(), threading.Event(), threading.Event()
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if text.startswith("warning"):
            warned.set()
        if text == "mlflow records again, and has what it missed":
            recovered.set()

    def add(epoch: int, tracker: Tracker) -> None:
        tracker.add_epoch(row(epoch))
        recorded.set()

    with mlflow_server(tmp_path / "store", behaviour) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        make = resolve_name(LIBRARIES["mlflow"].tracker)
        recorder = BackgroundTracker("mlflow", lambda: make(subject), say)
        recorder.tell(partial(add, 1))
        assert recorded.wait(60)
        behaviour.mode = trouble
        for epoch in (2, 3):
            recorder.tell(partial(add, epoch))
        assert warned.wait(60)
        behaviour.mode = "answers"
        results = Results(3, {"top1": 0.75}, (subject.folder / "curves.png",))
        recorder.tell(lambda tracker: tracker.add_results(results))
        assert recovered.wait(60)
        recorder.close("finished")
        run, curves = mlflow_run(uri)
    assert curves["val_score"] == val_scores(1, 2, 3)
    assert curves["final/top1"] == [(3, 0.75)]
    assert run.info.status == "FINISHED"
    assert any(name.endswith("images/curves.png") for name in behaviour.files)
    assert len([text for text in said if text.startswith("warning")]) == 1


@pytest.mark.slow(3)
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("trouble", ["fails", "hangs"])
def test_a_server_that_stays_away_stops_no_training(
    trouble: str, nanocv: Command, project: Path, tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mlflow_server(tmp_path / "store", Behaviour(trouble)) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.replace("//", "//me:secret@"))
        sets = [word for pair in [*TINY, "train.log=[dvclive,mlflow]"] for word in ("--set", pair)]
        done = nanocv("train", "--data", tiny_set, *sets, "--out", "run", "--json")
    assert done.code == 0, done.err
    warnings = [line for line in done.err.splitlines() if line.startswith("warning")]
    assert len(warnings) == 2, done.err
    assert "mlflow records nothing at present" in warnings[0]
    assert "are lost there; the run folder holds all of them" in warnings[1]
    assert "secret" not in done.err
    assert "Traceback" not in done.err
    assert (project / "run" / "dvclive" / "metrics.json").is_file()


@pytest.mark.slow(4)
def test_wandb_that_does_not_answer_is_recorded_offline(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    from nanocv_cli.training.recorders import wandb

    monkeypatch.setattr(wandb, "SECONDS", 1.0)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    tracker = wandb.WandbRun(subject)
    assert "wandb sync" in tracker.begin()
    tracker.add_epoch(row(1))
    tracker.end("finished")
    assert wandb_curves(subject.folder / "wandb")["val_score"] == val_scores(1)


def test_a_process_that_does_not_lead_records_nothing(subject: Subject) -> None:
    config = SimpleNamespace(train=SimpleNamespace(log=tuple(LIBRARIES)))
    context = SimpleNamespace(config=config, group=SimpleNamespace(is_main=False), run=RunDirectory(subject.folder))
    before, threads = sorted(subject.root.rglob("*")), threading.active_count()
    with Recorders(cast(TrainContext, context), subject.root) as recorders:
        recorders.begin([row(1)])
        recorders.add_epoch(row(2))
        recorders.add_results(2, {"top1": 1.0}, ())
        recorders.add_model()
        assert threading.active_count() == threads
    assert sorted(subject.root.rglob("*")) == before


def test_an_unknown_tracker_is_refused(nanocv: Command, project: Path, tiny_set: Path) -> None:
    done = nanocv("train", "--data", tiny_set, "--set", "train.log=[dvclive,mlfow]", "--out", "run")
    assert done.code == 2
    assert "did you mean mlflow?" in done.err
    assert not (project / "run").exists()


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_made(
    nanocv: Command, project: Path, tiny_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIBRARIES, "mlflow", replace(LIBRARIES["mlflow"], package="no_such_package"))
    done = nanocv("train", "--data", tiny_set, "--set", "train.log=[mlflow]", "--out", "run", "--json")
    assert done.code == 1
    assert done.document["error"]["hint"] == "pip install 'nanocv[mlflow]'"
    assert not (project / "run").exists()


def test_the_table_has_the_names_that_the_config_takes() -> None:
    names = get_args(get_args(TrainConfig.model_fields["log"].annotation)[0])
    assert list(names) == list(LIBRARIES)
