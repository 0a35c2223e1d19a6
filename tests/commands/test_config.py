"""`nanocv config show` and `nanocv config check` as they are called."""

import json
from pathlib import Path

import pytest

from nanocv_cli.config.overrides import KEYS
from nanocv_cli.rooms import BUILT_IN
from tests.conftest import Command, Write


def test_show_prints_key_value_and_origin_in_columns(nanocv: Command, write: Write) -> None:
    write("configs/train/a.yaml", "name: a\naugment: {flip: false}\n")
    shown = nanocv("config", "show", "train.augment", "--train", "a", "--set", "train.augment.erase=0.25")
    lines = shown.out.splitlines()
    assert shown.code == 0
    assert lines[0].split() == ["train.augment.flip", "false", "configs/train/a.yaml:2"]
    assert ["train.augment.erase", "0.25", "--set"] in [line.split() for line in lines]
    assert ["train.augment.mix", "0.0", "default"] in [line.split() for line in lines]
    starts = {line.index(word) for line in lines for word in line.split()[2:]}
    assert len(starts) == 1


def test_show_json_is_one_document_with_config_and_origin(nanocv: Command) -> None:
    document = json.loads(nanocv("config", "show", "--json", "--set", "train.epochs=5").out)
    assert list(document) == ["config", "origin"]
    assert list(document["config"]) == ["data", "model", "train", "gpu"]
    assert document["config"]["train"]["epochs"] == 5
    assert document["origin"]["train.epochs"] == "--set"
    document = json.loads(nanocv("config", "show", "--json", "gpu.peak").out)
    assert document["config"] == {
        "gpu": {"peak": {"fp32": 15.7e12, "tf32": None, "fp16": 125e12, "bf16": None, "int8": 62.8e12}}
    }
    assert list(document["origin"]) == [f"gpu.peak.{name}" for name in ("fp32", "tf32", "fp16", "bf16", "int8")]


def test_show_of_an_unknown_key_is_refused(nanocv: Command) -> None:
    shown = nanocv("config", "show", "train.epocs")
    assert (shown.code, shown.out) == (2, "")
    assert shown.err == "error: no key begins with 'train.epocs'\n  try: did you mean train.epochs?\n"


def test_a_wrong_config_ends_with_2_and_one_line(nanocv: Command, write: Write) -> None:
    write("configs/train/a.yaml", "name: a\nepochs: 0\n")
    message = "configs/train/a.yaml:2: train.epochs is 0; expected a whole number >= 1 and <= 100000"
    shown = nanocv("config", "show", "--train", "a")
    hint = "write another value there: times that every training image is trained on; its default is 20"
    assert (shown.code, shown.out, shown.err) == (2, "", f"error: {message}\n  try: {hint}\n")
    assert json.loads(nanocv("config", "show", "--train", "a", "--json").out) == {
        "error": {"message": message, "hint": hint, "kind": "config"}
    }


def test_check_takes_every_config_of_the_project(nanocv: Command, write: Write) -> None:
    write("configs/gpu/b.yml", "name: b\n")
    write("configs/train/a.yaml", "name: a\nepoch: 1\n")
    write("configs/train/good.yaml", "name: good\n")
    checked = nanocv("config", "check")
    assert checked.code == 2
    lines = checked.out.splitlines()
    assert [line.split(" ")[2] for line in lines if line.startswith("error")] == [
        *["configs/gpu/b.yml:1:"] * 6,
        "configs/train/a.yaml:2:",
    ]
    assert lines[-1] == "ok     configs/train/good.yaml  for classification, detection, segmentation, generation"
    assert "(did you mean epochs? known keys: name, epochs," in lines[-2]


def test_check_json_lists_files_with_their_errors(nanocv: Command, write: Write) -> None:
    good, bad = write("configs/train/good.yaml", "name: good\n"), write("train/bad.yaml", "name: bad\nwarmup: 2\n")
    checked = nanocv("config", "check", "--json", str(good), str(bad))
    assert checked.code == 2
    message = "train/bad.yaml:2: train.warmup is 2; expected a number >= 0 and < 1"
    hint = "write another value there: share of all steps that one-cycle spends rising; its default is 0.2"
    assert json.loads(checked.out) == {
        "files": [
            {"path": str(good), "group": "train", "errors": [], "tasks": list(BUILT_IN)},
            {"path": str(bad), "group": "train", "errors": [{"message": message, "hint": hint}], "tasks": []},
        ]
    }


def test_check_of_a_sound_project_ends_with_0(nanocv: Command, write: Write) -> None:
    write("configs/train/good.yaml", "name: good\n")
    assert nanocv("config", "check").code == 0


def test_check_says_so_where_there_is_nothing_to_check(nanocv: Command, project: Path) -> None:
    checked = nanocv("config", "check")
    assert (checked.code, checked.out) == (0, "")
    assert checked.err == f"no config files in {project.resolve() / 'configs'}\n"


@pytest.mark.parametrize("option", KEYS)
def test_an_option_takes_what_its_key_takes(nanocv: Command, project: Path, option: str) -> None:
    """Both have bounds: the option for its help, the key for what stands in files."""
    group, key = KEYS[option]
    values = {
        "epochs": ("1", "100000", "0", "100001"),
        "batch_size": ("1", "65536", "0", "65537"),
        "lr": ("1e-12", "100", "0", "101"),
        "seed": ("0", str(2**31 - 1), "-1", str(2**31)),
        "name": ("x", "5"),
    }[option]
    for number, value in enumerate(values):
        plain = nanocv("config", "show", f"{group}.{key}", f"--{option.replace('_', '-')}", value, "--json")
        by_set = nanocv("config", "show", f"{group}.{key}", "--set", f"{group}.{key}={value}", "--json")
        assert plain.code == by_set.code == (0 if number < 2 else 2), value
        if number < 2:
            assert plain.document["config"] == by_set.document["config"]
            assert plain.document["origin"] == {f"{group}.{key}": f"--{option.replace('_', '-')}"}
