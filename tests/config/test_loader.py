import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

import nanocv_cli
from nanocv_cli.config.loader import config_hash, load_resolved, resolve
from nanocv_cli.config.located import flatten
from nanocv_cli.config.overrides import parse_overrides
from nanocv_cli.config.project import shipped_configs
from nanocv_cli.errors import ConfigError
from tests.conftest import Write


@pytest.mark.usefixtures("project")
def test_a_bare_command_gets_the_defaults() -> None:
    config = resolve().config
    names = (config.data.name, config.model.name, config.train.name, config.gpu.name)
    assert names == ("flowers", "lenet", "quick", "v100")
    assert config.gpu.peak.fp16 == 125e12


@pytest.mark.usefixtures("project")
def test_every_leaf_key_has_an_origin_and_no_other_has() -> None:
    resolved = resolve()
    assert list(resolved.origins) == list(flatten(resolved.config.model_dump(mode="json")))


def test_the_recipe_is_the_argument_else_the_model_s_else_the_default(write: Write) -> None:
    write("configs/train/slow.yaml", "name: slow\n")
    write("configs/model/a.yaml", "name: a\narchitecture: lenet\nrecipe: slow\n")
    write("configs/model/b.yaml", "name: b\narchitecture: lenet\n")
    assert resolve(model="a", train="quick").config.train.name == "quick"
    assert resolve(model="a").config.train.name == "slow"
    assert resolve(model="b").config.train.name == "photos"


def test_an_unknown_recipe_is_told_with_the_model_s_line(write: Write) -> None:
    write("configs/model/a.yaml", "name: a\narchitecture: lenet\nrecipe: quikc\n")
    with pytest.raises(ConfigError) as caught:
        resolve(model="a")
    assert caught.value.message == "configs/model/a.yaml:3: no train config 'quikc'"
    assert caught.value.hint.startswith("did you mean quick?")


def test_a_recipe_that_is_no_name_is_told_with_its_line(write: Write) -> None:
    write("configs/model/a.yaml", "name: a\narchitecture: lenet\nrecipe: 5\n")
    with pytest.raises(ConfigError, match=r"^configs/model/a\.yaml:3: model\.recipe is 5; expected text or null$"):
        resolve(model="a")


def test_an_override_stands_over_a_wrong_value_in_the_file(write: Write) -> None:
    write("configs/train/a.yaml", "name: a\nepochs: 0\n")
    assert resolve(train="a", overrides=["train.epochs=3"]).config.train.epochs == 3


@pytest.mark.usefixtures("project")
def test_a_config_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        resolve().config.train.epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize("name", ["flowers", "2e-3", "on", "null", "été", "a: b #c", "\U0001f33c", " x ", "a\nb"])
def test_a_written_config_reads_back_the_same(project: Path, name: str) -> None:
    resolved = resolve(overrides=[f"data.name={name}", "model.mean=[0, 1, 1e-9]", "data.archive=null"])
    (project / "config.yaml").write_text(resolved.to_yaml())
    assert load_resolved(project / "config.yaml") == resolved.config


def test_a_written_config_may_be_read_with_another_value(project: Path) -> None:
    (project / "config.yaml").write_text(resolve(overrides=["train.epochs=3"]).to_yaml())
    config = load_resolved(project / "config.yaml", parse_overrides(["train.accumulate=2"]))
    assert (config.train.accumulate, config.train.epochs) == (2, 3)
    with pytest.raises(ConfigError, match=r"train\.accumulate is 0; expected"):
        load_resolved(project / "config.yaml", parse_overrides(["train.accumulate=0"]))


@pytest.mark.usefixtures("project")
def test_a_written_config_is_plain_yaml_in_four_sections() -> None:
    resolved = resolve()
    values = yaml.safe_load(resolved.to_yaml())
    assert list(values) == ["data", "model", "train", "gpu"]
    assert values["train"] == resolved.config.train.model_dump(mode="json")


def test_a_run_s_config_is_told_with_its_line(project: Path) -> None:
    text = resolve().to_yaml().replace("epochs: 20", "epochs: none")
    (project / "config.yaml").write_text(text)
    line = text.splitlines().index("  epochs: none") + 1
    with pytest.raises(ConfigError, match=rf"^config\.yaml:{line}: train\.epochs is 'none'; expected a whole number"):
        load_resolved(Path("config.yaml"))


@pytest.mark.usefixtures("project")
def test_the_hash_changes_with_what_is_learnt_and_with_nothing_else() -> None:
    usual = config_hash(resolve().config)
    assert len(usual) == 16
    assert int(usual, 16) >= 0
    for same in ("data.path=elsewhere", "data.archive=null", "gpu.name=other"):
        assert config_hash(resolve(overrides=[same]).config) == usual
    for other in ("data.split_seed=1", "model.input_size=64", "train.epochs=3", "train.augment.flip=false"):
        assert config_hash(resolve(overrides=[other]).config) != usual


def test_an_installed_package_works_with_no_checkout(tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    shutil.copytree(Path(nanocv_cli.__file__).parent, site / "nanocv_cli", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(shipped_configs(), site / "nanocv_cli" / "shipped_configs", dirs_exist_ok=True)
    empty.mkdir()
    code = (
        "import sys; from nanocv_cli.config.loader import resolve; r = resolve(model='resnet18');"
        "print(r.origins['model.input_size'], r.config.train.name, r.config.gpu.name, 'torch' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", code], cwd=empty, env=environment, capture_output=True, text=True)
    line = next(
        i
        for i, text in enumerate((shipped_configs() / "model/torchvision.yaml").read_text().splitlines(), 1)
        if text.startswith("input_size")
    )
    assert done.stdout == f"<nanocv>/model/torchvision.yaml:{line} photos v100 False\n", done.stderr
