from pathlib import Path

import pytest

from nanocv_cli.config.loader import load_group, resolve
from nanocv_cli.config.schema import DataConfig
from nanocv_cli.errors import ConfigError
from tests.conftest import Write


def test_a_project_without_configs_uses_the_shipped_ones(project: Path) -> None:
    resolved = resolve(data="flowers", model="lenet", gpu="v100")
    assert resolved.config.model.architecture == "lenet"
    assert resolved.origins["model.name"].startswith("<nanocv>/model/lenet.yaml:")
    assert resolved.origins["model.std"] == "default"


def test_the_project_s_config_comes_before_the_shipped_one(write: Write) -> None:
    write("configs/data/flowers.yaml", "path: mine\nname: flowers\n")
    config, origins = load_group("data", "flowers")
    assert config == DataConfig(name="flowers", path="mine")
    assert (origins["path"], origins["val_fraction"]) == ("configs/data/flowers.yaml:1", "default")


def test_the_project_is_found_from_a_folder_inside_it(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = write("configs/data/own.yaml", "name: own\npath: p\n").parent / "deeper"
    inside.mkdir()
    monkeypatch.chdir(inside)
    assert resolve(data="own").config.data.path == "p"


@pytest.mark.parametrize("name", ["elsewhere/own.yaml", "elsewhere/own.yml"])
def test_a_file_is_taken_by_its_path(write: Write, name: str) -> None:
    write(name, "name: own\narchitecture: lenet\ninput_size: 64\n")
    resolved = resolve(model=name)
    assert resolved.config.model.input_size == 64
    assert resolved.origins["model.input_size"] == f"{name}:3"


def test_a_folder_of_images_is_a_data_set(project: Path) -> None:
    (project / "photos").mkdir()
    for name in ("photos", "./photos", str(project / "photos")):
        resolved = resolve(data=name)
        assert resolved.config.data == DataConfig(name="photos", path=str(project.resolve() / "photos"))
        assert {resolved.origins[f"data.{key}"] for key in ("name", "path", "format")} == {"--data"}
    assert resolve(data=".").config.data.path == str(project.resolve())


def test_a_name_comes_before_a_folder_of_that_name(project: Path) -> None:
    (project / "flowers").mkdir()
    assert resolve(data="flowers").config.data.path == "data/flowers"
    assert resolve(data="./flowers").config.data.path == str(project.resolve() / "flowers")


def test_a_torchvision_name_stands_on_the_template(project: Path) -> None:
    resolved = resolve(model="resnet18")
    model = resolved.config.model
    assert (model.name, model.architecture, model.source) == ("resnet18", "resnet18", "torchvision")
    assert (model.input_size, model.mean, model.std) == (224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert resolved.origins["model.name"] == resolved.origins["model.architecture"] == "--model"
    assert resolved.origins["model.source"].startswith("<nanocv>/model/torchvision.yaml:")
    assert resolved.config.train.name == "photos"


def test_a_config_comes_before_a_torchvision_model_of_that_name(write: Write) -> None:
    write("configs/model/resnet18.yaml", "name: mine\narchitecture: lenet\n")
    assert resolve(model="resnet18").config.model.name == "mine"


@pytest.mark.parametrize(
    ("group", "name", "message", "hint"),
    [
        ("data", "flowrs", "no data config 'flowrs'", "did you mean flowers? known: flowers, or a folder of images"),
        ("data", "", "no data config ''", "known: flowers, or a folder of images"),
        ("data", "no/such", "no data config 'no/such'", "known: flowers, or a folder of images"),
        ("data", "x" * 400, f"no data config '{'x' * 400}'", "known: flowers, or a folder of images"),
        ("data", f"{'x' * 400}.yaml", f"no file '{'x' * 400}.yaml'", "known: flowers, or a folder of images"),
        ("model", "lennet", "no model config 'lennet'", "did you mean lenet? known: lenet, lenet32"),
        ("model", "nanodet", "no model config 'nanodet'", "nanodet is called nanospot now known: lenet, "),
        ("model", "resnet81", "no model config 'resnet81'", "did you mean resnet18? known: lenet, "),
        ("train", "quik.yaml", "no file 'quik.yaml'", "did you mean quick? known: "),
        ("gpu", "v10", "no gpu config 'v10'", "did you mean v100? known: a10, a100-40"),
    ],
)
@pytest.mark.usefixtures("project")
def test_a_missing_config_names_the_nearest(group: str, name: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(**{group: name})
    assert caught.value.message == message
    assert caught.value.hint.startswith(hint)


def test_the_project_s_own_names_are_suggested(write: Write) -> None:
    write("configs/data/garden.yaml", "name: garden\npath: p\n")
    with pytest.raises(ConfigError) as caught:
        resolve(data="gardn")
    assert caught.value.hint.startswith("did you mean garden? known: flowers, garden")


def test_the_project_s_defaults_are_laid_over_the_shipped_ones(write: Write) -> None:
    write("configs/defaults.yaml", "model: resnet18\n")
    config = resolve().config
    assert (config.model.name, config.data.name, config.gpu.name) == ("resnet18", "flowers", "v100")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("data: flowers\nmodle: lenet\n", "configs/defaults.yaml:2: modle is not a known key", "did you mean model?"),
        ("data: 5\n", "configs/defaults.yaml:1: data is 5; expected text that is not empty or null", ""),
        ("gpu: v100\ndata: flowrs\n", "configs/defaults.yaml:2: no data config 'flowrs'", "did you mean flowers?"),
        ("gpu:\n", "configs/defaults.yaml:1: names no gpu", "add gpu: NAME, or give --gpu NAME"),
    ],
)
def test_wrong_defaults_are_named_with_their_line(write: Write, text: str, message: str, hint: str) -> None:
    write("configs/defaults.yaml", text)
    with pytest.raises(ConfigError) as caught:
        resolve()
    assert caught.value.message == message
    assert caught.value.hint.startswith(hint)
