"""`nanocv serve config`: options, settings, JSON, refusals; no torch."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nanocv_cli.serving.repository.model_config import LONGEST_CARD
from nanocv_cli.serving.repository.pbtxt import read_config
from tests.conftest import Command
from tests.engine.graphs import colour_card, write_graph


@pytest.fixture
def graph(project: Path) -> str:
    write_graph(project / "colours.onnx")
    return "colours.onnx"


def test_it_writes_an_entry_and_says_which(nanocv: Command, graph: str) -> None:
    outcome = nanocv("serve", "config", "--model", graph, "--max-batch", "4", "--queue-delay-us", "4000",
                     "--instances", "2", "--kind", "cpu", "--preferred", "2,4", "--threads", "1", "--json")  # fmt: skip
    assert outcome.code == 0, outcome.err
    document = outcome.document
    assert (document["model"], document["version"]) == ("colours", 1)
    assert document["repository"] == "model_repository"
    config = read_config(Path(document["config"]))
    assert config.dynamic_batching.max_queue_delay_microseconds == 4000
    assert list(config.dynamic_batching.preferred_batch_size) == [2, 4]
    assert config.instance_group[0].count == 2
    assert config.parameters["intra_op_thread_count"].string_value == "1"
    assert not config.dynamic_batching.HasField("default_queue_policy")


def test_plain_output_is_the_path_and_the_config(nanocv: Command, graph: str) -> None:
    outcome = nanocv("serve", "config", "--model", graph)
    path, _, text = outcome.out.partition("\n")
    assert text == Path(path).read_text()
    assert "version 1 written" in outcome.err
    assert "nothing written" in nanocv("serve", "config", "--model", graph).err


def test_a_card_that_is_too_long_stays_behind_and_that_is_said(nanocv: Command, project: Path) -> None:
    write_graph(project / "wordy.onnx", colour_card(config={"notes": "x" * LONGEST_CARD}))
    for more in ([], ["--check", "--json"]):
        outcome = nanocv("serve", "config", "--model", "wordy.onnx", *more)
        assert outcome.code == 0, outcome.err
        (note,) = (line for line in outcome.err.splitlines() if line.startswith("note: "))
        assert "the model card is too long" in note and "524,288 characters at most" in note
    assert "note: " not in nanocv("serve", "config", "--model", write_graph(project / "brief.onnx")).err


def test_settings_come_from_a_file_options_and_set_in_this_order(nanocv: Command, graph: str, project: Path) -> None:
    folder = project / "configs" / "serve"
    folder.mkdir(parents=True)
    (folder / "busy.yaml").write_text("name: busy\nmax_batch: 16\nqueue_delay_us: 7\ninstances: 3\nwarmup: off\n")
    outcome = nanocv("serve", "config", "--model", graph, "--serve", "busy", "--queue-delay-us", "8",
                     "--instances", "2", "--set", "serve.instances=5", "--json")  # fmt: skip
    assert outcome.code == 0, outcome.err
    config = read_config(Path(outcome.document["config"]))
    assert (config.max_batch_size, config.dynamic_batching.max_queue_delay_microseconds) == (16, 8)
    assert config.instance_group[0].count == 5
    assert not config.model_warmup


def test_check_lists_differences_and_exits_1(nanocv: Command, graph: str) -> None:
    arguments = ("serve", "config", "--model", graph)
    assert nanocv(*arguments, "--check").code == 1
    assert not Path("model_repository").exists()
    nanocv(*arguments)
    assert nanocv(*arguments, "--check").code == 0
    outcome = nanocv(*arguments, "--check", "--max-batch", "2")
    assert outcome.code == 1
    assert "max_batch_size is 4; expected 2" in outcome.out
    outcome = nanocv(*arguments, "--check", "--queue-delay-us", "2", "--json")
    assert outcome.code == 1
    assert len(outcome.document["differences"]) == 1


def test_compose_and_kserve_files_lie_beside_the_repository(nanocv: Command, graph: str, project: Path) -> None:
    outcome = nanocv("serve", "config", "--model", graph, "--target", "compose", "--json")
    assert Path(outcome.document["deployment"]) == project.resolve() / "triton.compose.yaml"
    outcome = nanocv("serve", "config", "--model", graph, "--target", "kserve", "--storage-uri", "pvc://models/all",
                     "--out", "deploy", "--backend", "python")  # fmt: skip
    assert outcome.code == 0
    assert "onnxruntime" in outcome.err
    document = yaml.safe_load((project / "deploy" / "colours.kserve.yaml").read_text())
    assert document["spec"]["predictor"]["model"]["storageUri"] == "pvc://models/all"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--max-batch", "0"], 2, "--max-batch: serve.max_batch is 0; expected a whole number >= 1"),
        (["--preferred", "2,8"], 2, "--preferred: serve.preferred is [2, 8]; expected different batch sizes"),
        (["--preferred", "2;4"], 2, "--preferred 2;4: expected whole numbers"),
        (["--backend", "pyton"], 2, "expected one of onnxruntime, openvino, python"),
        (["--kind", "tpu"], 2, "expected one of cpu, gpu"),
        (["--set", "serve.gpus=[0]"], 2, "expected none, for kind is cpu"),
        (["--set", "serve.version_policy=specific"], 2, "serve.versions"),
        (["--set", "train.epochs=3"], 2, "expected GROUP.KEY=VALUE with one of the groups serve"),
        (["--serve", "defalt"], 2, "no serve config 'defalt'"),
        (["--name", "../up"], 2, "cannot name a model"),
        (["--version", "0"], 2, "version 0 is out of range"),
        (["--target", "kserve"], 2, "needs a storage URI"),
        (["--repository", "colours.onnx"], 2, "is a file"),
        (["--model", "nothing.onnx"], 2, "no file nothing.onnx"),
    ],
)
def test_wrong_requests_write_nothing(
    nanocv: Command, graph: str, project: Path, arguments: list[str], code: int, message: str
) -> None:
    outcome = nanocv("serve", "config", "--model", graph, *arguments, "--json")
    assert outcome.code == code
    assert message in outcome.document["error"]["message"]
    assert not (project / "model_repository").exists()


def test_config_check_validates_serve_configs(nanocv: Command, project: Path) -> None:
    folder = project / "configs" / "serve"
    folder.mkdir(parents=True)
    (folder / "good.yaml").write_text("name: good\nmax_batch: 8\npreferred: [4, 8]\n")
    assert nanocv("config", "check").code == 0
    (folder / "bad.yaml").write_text("name: bad\nmax_batch: 8\npreferred: [16]\nqueue_dely_us: 3\n")
    outcome = nanocv("config", "check")
    assert outcome.code == 2
    assert "bad.yaml:3: serve.preferred is [16]" in outcome.out
    assert "bad.yaml:4: serve.queue_dely_us is not a known key (did you mean queue_delay_us?" in outcome.out


def test_other_commands_refuse_serve_overrides(nanocv: Command, project: Path) -> None:
    assert nanocv("config", "show", "--set", "serve.max_batch=4").code == 2


def test_nothing_heavy_is_imported(project: Path, graph: str) -> None:
    script = (
        "import sys\nfrom tests.conftest import run_nanocv\n"
        f"assert run_nanocv('serve', 'config', '--model', {graph!r}).code == 0\n"
        "print(*{'torch', 'onnx', 'matplotlib', 'safetensors'} & set(sys.modules))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
