from pathlib import Path

import pytest

from nanocv_cli.config.check import check_file
from nanocv_cli.config.loader import resolve
from nanocv_cli.config.project import shipped_configs
from tests.conftest import Write

SHIPPED = sorted(shipped_configs().rglob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.name}")
@pytest.mark.usefixtures("project")
def test_every_shipped_config_is_valid(path: Path) -> None:
    assert check_file(path).errors == ()


def test_a_file_in_a_group_s_folder_is_checked_by_it_with_every_finding(write: Write) -> None:
    checked = check_file(write("anywhere/train/a.yaml", "name: a\nepochs: 0\nbatch: 3\n"))
    assert checked.group == "train"
    assert [error.message for error in checked.errors] == [
        "anywhere/train/a.yaml:2: train.epochs is 0; expected a whole number >= 1 and <= 100000",
        "anywhere/train/a.yaml:3: train.batch is not a known key",
    ]


@pytest.mark.parametrize(
    ("text", "tasks"),
    [
        ("name: a\n", ("classification", "detection", "segmentation", "generation")),
        ("name: a\nlabel_smoothing: 0.1\n", ("classification", "segmentation")),
        ("name: a\naugment: {mosaic: 0.5}\n", ("detection", "segmentation")),
        ("name: a\nlabel_smoothing: 0.1\nlabel_dropout: 0.1\n", ()),
    ],
)
def test_a_recipe_is_for_the_tasks_that_read_all_of_its_keys(write: Write, text: str, tasks: tuple[str, ...]) -> None:
    checked = check_file(write("configs/train/a.yaml", text))
    assert checked.tasks == tasks
    assert bool(checked.errors) == (not tasks)


def test_the_folder_counts_where_the_path_does_not_name_it(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write("configs/gpu/a.yaml", "name: a\n").parent)
    assert check_file(Path("a.yaml")).group == "gpu"


def test_a_run_s_config_is_known_by_its_sections(write: Write) -> None:
    text = resolve().to_yaml()
    assert check_file(write("runs/train/config.yaml", text)).group == "run"
    assert check_file(write("runs/train/config.yaml", text)).errors == ()
    checked = check_file(write("runs/a/config.yaml", text.replace("epochs: 20", "epochs: 0")))
    assert [error.message.partition(": ")[2] for error in checked.errors] == [
        "train.epochs is 0; expected a whole number >= 1 and <= 100000"
    ]


def test_defaults_must_name_configs_that_exist(write: Write) -> None:
    checked = check_file(write("configs/defaults.yaml", "data: flowers\nmodel: resnet81\ntrain: quikc\n"))
    assert checked.group == "defaults"
    assert [error.message for error in checked.errors] == [
        "configs/defaults.yaml:2: no model config 'resnet81'",
        "configs/defaults.yaml:3: no train config 'quikc'",
    ]
    assert (
        check_file(write("configs/defaults.yaml", "data: 5\n"))
        .errors[0]
        .message.startswith("configs/defaults.yaml:1: data is 5")
    )


def test_a_model_s_recipe_must_exist(write: Write) -> None:
    checked = check_file(write("configs/model/a.yaml", "name: a\narchitecture: lenet\nrecipe: quikc\n"))
    assert [error.message for error in checked.errors] == ["configs/model/a.yaml:3: no train config 'quikc'"]


def test_files_of_no_group_and_unreadable_ones_are_wrong(write: Write) -> None:
    checked = check_file(write("other/a.yaml", "name: a\n"))
    assert checked.group == "unknown"
    assert checked.errors[0].message.startswith(
        "other/a.yaml: its folder is 'other'; expected one of data, model, train"
    )
    checked = check_file(write("configs/data/a.yaml", "a: [\n"))
    assert (checked.group, len(checked.errors)) == ("data", 1)
    assert check_file(Path("none.yaml")).errors[0].message == "none.yaml: cannot be read: No such file or directory"
