"""`config show` and `config check` as the user sees them."""

from pathlib import Path

from tests.conftest import REPOSITORY, Command


def test_show_names_every_value_and_its_origin(nanocv: Command, project: Path) -> None:
    document = nanocv("config", "show", "--set", "train.epochs=5", "--json").document
    assert document["config"]["train"]["epochs"] == 5
    assert document["origin"]["train.epochs"] == "--set"
    assert document["origin"]["model.name"].startswith("<nanocv>/model/lenet.yaml:")
    assert document["origin"]["train.augment.erase"] == "default"


def test_show_filters_by_prefix(nanocv: Command, project: Path) -> None:
    lines = nanocv("config", "show", "train.augment").out.splitlines()
    assert len(lines) > 3
    assert all(line.startswith("train.augment.") for line in lines)


def test_check_passes_all_shipped_files(nanocv: Command) -> None:
    files = sorted((REPOSITORY / "configs").rglob("*.yaml"))
    outcome = nanocv("config", "check", *files, "--json")
    assert outcome.code == 0
    assert [entry["errors"] for entry in outcome.document["files"]] == [[]] * len(files)


def test_check_reports_every_error_of_every_file(nanocv: Command, project: Path) -> None:
    folder = project / "configs" / "train"
    folder.mkdir(parents=True)
    (folder / "a.yaml").write_text("name: a\nepochs: 0\nseeds: 1\n")
    (folder / "b.yaml").write_text("name: b\n")
    outcome = nanocv("config", "check", "--json")
    assert outcome.code == 2
    errors = {Path(entry["path"]).name: entry["errors"] for entry in outcome.document["files"]}
    assert errors["b.yaml"] == []
    assert len(errors["a.yaml"]) == 2
    assert any(":2: train.epochs is 0" in message for message in errors["a.yaml"])
    assert any(":3: train.seeds is not a known key" in message for message in errors["a.yaml"])


def test_an_error_is_one_line_what_one_line_what_to_do(nanocv: Command, project: Path) -> None:
    outcome = nanocv("config", "show", "--set", "train.epoch=4")
    assert outcome.code == 2
    assert outcome.out == ""
    first, second = outcome.err.splitlines()
    assert first.startswith("error: --set train.epoch=4")
    assert second.startswith("  try: did you mean epochs?")
