"""`nanocv analyze flops` as a user calls it."""

import csv
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from nanocv_cli.analysis.measured import Measured, far_below_roof
from nanocv_cli.analysis.roofline import Estimate, Point
from nanocv_cli.engine.runtimes import RUNTIMES, Runtime
from tests.conftest import Command, TrainedRun

CONTRACT = {"name", "kind", "kernel", "in_channels", "out_channels", "in_size", "out_size", "flops", "params", "bytes",
            "intensity", "verdict"}  # fmt: skip


@pytest.mark.slow(4)
def test_lenet_prints_the_figures_of_the_design(nanocv: Command, project: Path) -> None:
    done = nanocv("analyze", "flops", "--gpu", "v100")
    assert done.code == 0, done.err
    rows = [line.split() for line in done.out.splitlines()]
    mflops = [row[7] for row in rows if row and (row[0].startswith("features.conv"))]
    assert mflops == ["10.838", *["28.901"] * 4]
    assert next(row for row in rows if row and row[0] == "classifier")[4] == "0.100"
    assert "below 40 memory-bound, above 139 compute-bound" in done.err
    assert "1 multiply-add = 1 MAC = 2 FLOPs" in done.err


def test_the_json_document_keeps_the_contract(nanocv: Command, project: Path) -> None:
    document = nanocv("analyze", "flops", "--json").document
    assert {"model", "input", "gpu", "thresholds", "layers", "total"} <= document.keys()
    assert all(layer.keys() >= CONTRACT for layer in document["layers"])
    assert document["gpu"] == "v100"
    assert [round(value) for value in document["thresholds"]] == [40, 139]
    total = document["total"]
    for key in ("flops", "params", "bytes"):
        assert total[key] == sum(layer[key] for layer in document["layers"])
    assert total["flops"] == 2 * total["macs"] == 126_543_872 + 0
    layer = document["layers"][0]
    assert layer["bytes"] == layer["weight_bytes"] + layer["input_bytes"] + layer["output_bytes"]


def test_units_are_never_mixed(nanocv: Command, project: Path) -> None:
    flops = nanocv("analyze", "flops", "--format", "csv").out
    macs = nanocv("analyze", "flops", "--format", "csv", "--unit", "macs").out
    in_flops = [row["MFLOPs"] for row in csv.DictReader(io.StringIO(flops))]
    in_macs = [row["MMACs"] for row in csv.DictReader(io.StringIO(macs))]
    assert [float(value) for value in in_flops] == pytest.approx([2 * float(value) for value in in_macs], abs=2e-3)
    assert in_flops[-1] == "126.544"


def test_markdown_is_a_table(nanocv: Command, project: Path) -> None:
    lines = nanocv("analyze", "flops", "--format", "markdown").out.splitlines()
    assert len({line.count("|") for line in lines if line}) == 1
    assert set(lines[1]) <= set("| :-")


@pytest.mark.slow(4)
def test_a_sweep_moves_intensity_and_names_the_turn(nanocv: Command, project: Path) -> None:
    options = ("analyze", "flops", "--batch-sizes", "1,4,16,64,256", "--dtype", "fp16,int8", "--figures", "images")
    document = nanocv(*options, "--json").document
    points = document["batch_sizes"]
    assert [(at["dtype"], at["batch_size"]) for at in points][:6] == [
        *(("fp16", batch) for batch in (1, 4, 16, 64, 256)),
        ("int8", 1),
    ]
    fp16 = [at["intensity"] for at in points[:5]]
    assert fp16 == sorted(fp16)
    turns = {turn["name"]: turn for turn in document["compute_bound_from"]}
    assert turns["features.conv5"]["batch_size"] > 1
    assert "tends to" in turns["features.conv1"]["reason"]
    assert [Path(path).name for path in document["figures"]] == ["roofline.png", "sweep.png"]
    for path in document["figures"]:
        with Image.open(path) as image:
            assert image.width > 800
    text = nanocv(*options)
    assert "never: its intensity tends to" in text.out


def test_a_trained_run_brings_its_own_classes(nanocv: Command, trained: TrainedRun) -> None:
    document = nanocv("analyze", "flops", "--model", trained.folder, "--json").document
    assert document["layers"][-1]["out_channels"] == 3
    assert document["input"] == ["images float [1,3,32,32]"]
    graph = nanocv("analyze", "flops", "--model", trained.folder / "model.onnx", "--json").document
    assert graph["total"]["flops"] == document["total"]["flops"]


def test_classes_sizes_and_overrides(nanocv: Command, project: Path) -> None:
    def last(*options: str) -> int:
        layers = nanocv("analyze", "flops", *options, "--json").document["layers"]
        return int(layers[-1]["out_channels"])

    assert last("--model", "resnet18") == 1000
    assert last("--model", "resnet18", "--classes", "7") == 7
    assert last("--model", "resnet18", "--data", "flowers") == 4
    document = nanocv("analyze", "flops", "--model", "nanores", "--input-size", "96", "--json").document
    assert document["input"] == ["images float [1,3,96,96]"]


def test_measured_beside_predicted(nanocv: Command, trained: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanocv_cli.analysis.measured.SECONDS", 0.05)
    for model in (trained.folder, trained.folder / "model.onnx"):
        document = nanocv("analyze", "flops", "--model", model, "--dtype", "fp32", "--measure", "--json").document
        measured = document["measured"]
        assert measured["seconds"] > 0
        assert measured["error"] == pytest.approx(measured["predicted_seconds"] / measured["seconds"] - 1)
        pairs = list(zip(document["layers"], measured["layers"], strict=True))
        assert all(timed["seconds"] for layer, timed in pairs if layer["macs"])
        for layer, timed in pairs:
            if timed["seconds"]:
                assert timed["share_of_roof"] == pytest.approx(layer["roof_seconds"] / timed["seconds"])


def test_openvino_tells_what_it_computes_together(
    nanocv: Command, trained: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanocv_cli.analysis.measured.SECONDS", 0.05)
    options = ("analyze", "flops", "--model", trained.folder / "model.onnx", "--measure", "--engine", "openvino")
    document = nanocv(*options, "--json").document
    measured = document["measured"]
    assert measured["engine"].startswith("OpenVINO")
    named = {layer["name"] for layer in document["layers"]}
    pairs = list(zip(document["layers"], measured["layers"], strict=True))
    assert all(timed["seconds"] for layer, timed in pairs if layer["kind"] == "conv2d")
    within = {timed["fused_into"] for _, timed in pairs} - {None}
    assert within and within <= named
    assert all(timed["seconds"] is None for _, timed in pairs if timed["fused_into"])
    own = sum(timed["seconds"] or 0.0 for _, timed in pairs)
    assert measured["summed_seconds"] == pytest.approx(own + measured["rest_seconds"])
    assert set(measured["far_below_roof"]) <= named
    told = nanocv(*options).out
    assert "no layer" in told and "under 25% of the roof" in told
    assert f"in {min(within)}" in told


@pytest.mark.parametrize("options", [("--engine", "openvino"), ("--measure", "--engine", "telepathy")])
def test_an_engine_that_runs_nothing_is_refused(nanocv: Command, trained: TrainedRun, options: tuple[str, ...]) -> None:
    refused = nanocv("analyze", "flops", "--model", trained.folder / "model.onnx", *options)
    assert refused.code == 2 and "--engine" in refused.err


def test_an_engine_that_nothing_measures_by_is_refused(
    nanocv: Command, trained: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RUNTIMES, "third", Runtime("nowhere:nothing", "onnx"))
    refused = nanocv("analyze", "flops", "--model", trained.graph, "--measure", "--engine", "third")
    assert refused.code == 2 and "use onnxruntime or openvino" in refused.err


def test_layers_far_below_the_roof_are_those_that_matter() -> None:
    estimates = [Estimate(1.0, "compute-bound", 1, roof, roof) for roof in (1.0, 1.0, 0.001, 1.0)]
    at = Point(1, "fp32", tuple(estimates), 1.0, "compute-bound", 4.0)
    assert far_below_roof(at, Measured("x", 20.0, (9.0, 3.0, 0.1, 5.0), 5)) == [0, 3]
    assert far_below_roof(at, Measured("x", 20.0, (None, 4.0, None, None), 5, rest=96.0)) == []


def test_ptflops_stands_beside_ours_with_its_own_total(nanocv: Command, project: Path) -> None:
    from ptflops import get_model_complexity_info
    from torchvision import models

    theirs, _ = get_model_complexity_info(
        models.resnet18(), (3, 224, 224), as_strings=False, print_per_layer_stat=False, backend="pytorch"
    )
    document = nanocv("analyze", "flops", "--model", "resnet18", "--check", "ptflops", "--json").document
    assert document["ptflops"]["ptflops"] == theirs
    assert document["ptflops"]["ours"] == document["total"]["macs"]
    modules = document["ptflops"]["modules"]
    assert all(
        module["explanation"] not in ("", "not explained") for module in modules if module["ours"] != module["theirs"]
    )


def test_local_peaks_are_measured_once(nanocv: Command, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanocv_cli.analysis.local.SECONDS_PER_ROUND", 0.002)
    monkeypatch.setattr("nanocv_cli.analysis.local.SIDES", {"cpu": (64, 128)})
    monkeypatch.setattr("nanocv_cli.analysis.local.MEMORY_BYTES", {"cpu": 2**24})
    first = nanocv("analyze", "flops", "--gpu", "local", "--device", "cpu", "--json")
    second = nanocv("analyze", "flops", "--gpu", "local", "--device", "cpu", "--json")
    assert "measuring the peaks" in first.err
    assert "measuring the peaks" not in second.err
    assert first.document["thresholds"] == second.document["thresholds"]
    assert first.document["dtype"] == "fp32"
    (kept,) = project.rglob("peaks-cpu.json")
    kept.write_text("{")
    assert "measuring the peaks" in nanocv("analyze", "flops", "--gpu", "local", "--device", "cpu").err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--gpu", "v1000"), "no gpu config 'v1000'"),
        (("--dtype", "fp8"), "unknown --dtype 'fp8'"),
        (("--dtype", "bf16"), "has no bf16 peak"),
        (("--batch-sizes", "0"), "expected whole numbers from 1"),
        (("--batch-sizes", "a"), "expected whole numbers"),
        (("--unit", "flop"), "unknown --unit"),
        (("--format", "html"), "unknown --format"),
        (("--model", "lenett"), "no model config 'lenett'"),
        (("--model", "runs/none"), "no run folder"),
        (("--model", "none.onnx"), "no graph none.onnx"),
        (("--model", "vit_b_16", "--input-size", "100"), "cannot read 100x100 images"),
        (("--model", "lenet", "--shape", "x:1,3"), "--shape is for .onnx files"),
    ],
)
def test_a_wrong_request_is_one_line(nanocv: Command, project: Path, options: tuple[str, ...], message: str) -> None:
    done = nanocv("analyze", "flops", *options)
    assert done.code in (1, 2)
    assert message in done.err
    assert "Traceback" not in done.err
    assert json.loads(nanocv("analyze", "flops", *options, "--json").out)["error"]["message"]
