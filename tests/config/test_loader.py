"""Names, files, overrides: what is found where, and what is said when it is not."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nanocv_cli.config.flatten import flatten
from nanocv_cli.config.loader import config_hash, load_resolved, resolve
from nanocv_cli.config.zoo import TORCHVISION_CLASSIFIERS
from nanocv_cli.errors import ConfigError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_bare_project_uses_the_shipped_configs(project: Path) -> None:
    resolved = resolve()
    assert resolved.config.data.name == "flowers"
    assert resolved.config.model.name == "lenet"
    assert resolved.config.train.name == "quick"
    assert resolved.config.gpu.name == "v100"
    assert resolved.origins["train.epochs"].startswith("<nanocv>/train/quick.yaml:")
    assert resolved.origins["train.gradient_clip"] == "default"


def test_the_projects_own_file_comes_first(project: Path) -> None:
    write(project / "configs/train/quick.yaml", "name: quick\nepochs: 3\n")
    resolved = resolve()
    assert resolved.config.train.epochs == 3
    assert resolved.origins["train.epochs"] == "configs/train/quick.yaml:2"


def test_a_path_works_too(project: Path) -> None:
    path = write(project / "mine.yaml", "name: mine\nepochs: 7\n")
    assert resolve(train=str(path)).config.train.epochs == 7


def test_a_folder_of_pictures_is_a_set(project: Path, tiny_set: Path) -> None:
    resolved = resolve(data=str(tiny_set))
    assert (resolved.config.data.name, resolved.config.data.path) == ("colours", str(tiny_set))
    assert resolved.origins["data.path"] == "--data"


def test_a_torchvision_name_is_a_model_with_the_default_recipe(project: Path) -> None:
    resolved = resolve(model="resnet18")
    assert (resolved.config.model.architecture, resolved.config.model.source) == ("resnet18", "torchvision")
    assert resolved.config.train.name == "photos"


def test_the_torchvision_names_are_those_of_the_installed_one() -> None:
    models = pytest.importorskip("torchvision").models
    assert set(models.list_models(module=models)) == set(TORCHVISION_CLASSIFIERS)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.epochs=5", "train.epochs", 5),
        ("train.learning_rate=2e-3", "train.learning_rate", 0.002),
        ("train.learning_rate=1", "train.learning_rate", 1.0),
        ("train.augment.flip=false", "train.augment.flip", False),
        ("data.name=007", "data.name", "007"),
        ("data.classes=[a, b]", "data.classes", ("a", "b")),
        ("model.recipe=null", "model.recipe", None),
        ("model.mean=[0, 0.5, 1]", "model.mean", (0.0, 0.5, 1.0)),
    ],
)
def test_an_override_takes_the_type_of_its_field(project: Path, override: str, key: str, value: object) -> None:
    resolved = resolve(overrides=[override])
    found = flatten(resolved.config.model_dump())[key]
    assert found == value
    assert type(found) is type(value)
    assert resolved.origins[key] == "--set"


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("train.epoch=5", "train.epoch is not a known key", "did you mean epochs?"),
        ("train.epochs=0", "train.epochs is 0; expected a whole number >= 1", ""),
        ("train.epochs=2.5", "train.epochs is 2.5; expected a whole number", ""),
        ("train.epochs='5'", "train.epochs is '5'; expected a whole number", ""),
        ("train.epochs=true", "train.epochs is true; expected a whole number", ""),
        ("train.optimizer=adam", "expected one of adamw, sgd", "did you mean adamw?"),
        ("train.augment.flip=yes", "expected true or false", ""),
        ("model.mean=[0, 1]", "expected a list of 3 numbers", ""),
        ("trian.epochs=5", "expected GROUP.KEY=VALUE", "did you mean train.epochs?"),
        ("train.epochs", "expected GROUP.KEY=VALUE", ""),
        ("train.epochs.x=1", "epochs has no keys of its own", "nanocv config show"),
        ("train.learning_rate=.nan", "train.learning_rate", ""),
    ],
)
def test_a_wrong_override_names_itself_and_the_way_out(project: Path, override: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(overrides=[override])
    assert caught.value.message.startswith(f"--set {override}")
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("name: x\nbatchsize: 3\n", 2, "train.batchsize is not a known key", "did you mean batch_size?"),
        ("name: x\n\nepochs: many\n", 3, "train.epochs is 'many'; expected a whole number >= 1", ""),
        ("name: x\naugment:\n  flip: 1\n", 3, "train.augment.flip is 1; expected true or false", ""),
        ("name: x\naugment:\n  flop: true\n", 3, "train.augment.flop is not a known key", "did you mean flip?"),
        ("epochs: 3\n", 1, "train.name is missing", "name: ..."),
        ("name: x\nepochs: 3\nepochs: 4\n", 3, "epochs stands twice (first in line 2)", "delete"),
        ("name: x\nepochs: [3\n", 3, "not valid YAML", ""),
        ("name: x\n\tepochs: 3\n", 2, "not valid YAML", ""),
        ("- name\n", 1, "expected lines of the form key: value", ""),
        ("", 1, "expected lines of the form key: value", ""),
        ("name: &a x\nseed: *a\n", 1, "aliases (*name) are not allowed", "write it out"),
        ("name: !!python/object/apply:os.system ['true']\n", 1, "not valid YAML", ""),
    ],
)
def test_a_wrong_file_is_answered_with_its_line(project: Path, text: str, line: int, message: str, hint: str) -> None:
    write(project / "configs/train/bad.yaml", text)
    with pytest.raises(ConfigError) as caught:
        resolve(train="bad")
    assert caught.value.message.startswith(f"configs/train/bad.yaml:{line}: ")
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_missing_name_names_the_nearest(project: Path) -> None:
    with pytest.raises(ConfigError, match="no model config 'resnet81'") as caught:
        resolve(model="resnet81")
    assert "did you mean resnet18?" in caught.value.hint
    with pytest.raises(ConfigError, match="no data config 'flower'") as caught:
        resolve(data="flower")
    assert "did you mean flowers?" in caught.value.hint


def test_a_file_that_is_no_text_is_refused(project: Path) -> None:
    path = project / "x.yaml"
    path.write_bytes(b"name: x\n\xff\xfe")
    with pytest.raises(ConfigError, match=r"x\.yaml:2: not UTF-8"):
        resolve(train=str(path))


def test_the_resolved_config_loads_again(project: Path, tiny_set: Path) -> None:
    resolved = resolve(data=str(tiny_set), model="vit_b_16", overrides=["train.learning_rate=1e-5"])
    path = write(project / "run" / "config.yaml", resolved.to_yaml())
    assert load_resolved(path) == resolved.config


def test_the_hash_follows_what_is_learnt_and_not_where(project: Path, tiny_set: Path) -> None:
    base = config_hash(resolve().config)
    assert config_hash(resolve(overrides=["data.path=elsewhere"]).config) == base
    assert config_hash(resolve(overrides=["train.seed=1"]).config) != base


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_value_is_taken_or_refused_and_never_crashes(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.mktemp("any") / "x.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "epochs": value, "augment": value}, allow_unicode=True))
    with pytest.raises(ConfigError):
        resolve(train=str(path))


@given(st.binary(max_size=60))
def test_any_bytes_are_taken_or_refused_and_never_crash(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "x.yaml"
    path.write_bytes(b"epochs: 0\n" + content)
    with pytest.raises(ConfigError):
        resolve(train=str(path))
