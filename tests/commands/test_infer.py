"""`nanocv infer` from the outside: what stands on stdout and stderr, and the exit status."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from PIL import Image

from nanocv_cli.app import main
from nanocv_cli.commands import infer
from tests.engine.graphs import colour_card, write_graph
from tests.images.image_bytes import write_image

ROOT = Path(__file__).parents[2]


class Outcome(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


Nanocv = Callable[..., Outcome]


@pytest.fixture
def nanocv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nanocv:
    """Runs `nanocv infer` with the colour graph in a folder of three images, one of which is damaged."""
    monkeypatch.chdir(tmp_path)
    write_graph(tmp_path / "model.onnx")
    write_image(tmp_path / "photos" / "a.png", "red", (200, 150))
    write_image(tmp_path / "photos" / "sub" / "b.jpg", "blue", (120, 160))
    (tmp_path / "photos" / "bad.png").write_bytes(b"broken")

    def run(*arguments: str, model: str | None = "model.onnx") -> Outcome:
        chosen = ["--model", model] if model else []
        monkeypatch.setattr(sys, "argv", ["nanocv", "infer", *arguments, *chosen])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return Outcome(caught.value.code, captured.out, captured.err)

    return run


def test_a_line_for_each_image(nanocv: Nanocv) -> None:
    outcome = nanocv("photos/a.png", "photos/sub")
    assert outcome == (
        0,
        "photos/a.png  red 100.0 %  green 0.0 %  blue 0.0 %\nphotos/sub/b.jpg  blue 100.0 %  red 0.0 %  green 0.0 %\n",
        "",
    )


def test_json_lines(nanocv: Nanocv) -> None:
    outcome = nanocv("photos/sub/b.jpg", "photos/a.png", "--json", "--top", "2")
    assert outcome.status == 0
    assert [line["path"] for line in outcome.lines] == ["photos/sub/b.jpg", "photos/a.png"]
    for line, label in zip(outcome.lines, ("blue", "red"), strict=True):
        assert set(line) == {"path", "task", "predictions"}
        assert line["task"] == "classification"
        first, second = line["predictions"]  # type: ignore[misc]
        assert first["label"] == label
        assert 1.0 >= first["score"] > 0.99 > second["score"] >= 0.0


def test_unreadable_images_are_skipped_counted_and_told(nanocv: Nanocv) -> None:
    outcome = nanocv("photos", "--json")
    assert outcome.status == 1
    assert [("error" in line, line["path"]) for line in outcome.lines] == [
        *((False, "photos/a.png"), (True, "photos/bad.png"), (False, "photos/sub/b.jpg"))
    ]
    assert outcome.err.splitlines() == [
        "warning: skipped photos/bad.png: not an image in a format that nanocv reads",
        "error: skipped 1 of 3 images that could not be read",
        "  try: replace or remove those files",
    ]


def test_many_unreadable_images_are_summed_up(nanocv: Nanocv, tmp_path: Path) -> None:
    for number in range(25):
        (tmp_path / "photos" / f"bad-{number}.png").touch()
    outcome = nanocv("photos")
    assert len(outcome.out.splitlines()) == 2
    *warnings, what, advice = outcome.err.splitlines()
    assert len(warnings) == infer.WARNINGS_SHOWN
    assert what == "error: skipped 26 of 28 images that could not be read"
    assert advice.startswith("  try: ")


def test_annotated_copies(nanocv: Nanocv, tmp_path: Path) -> None:
    before = (tmp_path / "photos" / "a.png").read_bytes()
    outcome = nanocv("photos", "--out", "out", "--json")
    assert outcome.status == 1
    assert [line.get("annotated") for line in outcome.lines] == ["out/a.png", None, "out/sub/b.jpg"]
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == ["a.png", "b.jpg"]
    with Image.open(tmp_path / "out" / "a.png") as copy:
        assert copy.size == (200, 150)
        assert copy.getpixel((199, 0)) == (255, 0, 0)
        assert len(copy.getcolors(1 << 16) or []) > 5
    assert (tmp_path / "photos" / "a.png").read_bytes() == before


def test_standard_input(nanocv: Nanocv, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = (tmp_path / "photos" / "a.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    outcome = nanocv("-", "--json", "--out", "out")
    assert outcome.status == 0
    assert outcome.lines[0]["path"] == "-"
    assert (tmp_path / "out" / "stdin.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "model", "status", "message"),
    [
        ([], "model.onnx", 2, "Missing argument"),
        (["photos/none.png"], "model.onnx", 2, "no file, folder or glob match"),
        (["photos/a.png"], "none.onnx", 2, "no file none.onnx"),
        (["photos/a.png"], "nobody", 2, "no trained model 'nobody'"),
        (["photos/a.png"], None, 2, "no trained model 'lenet'"),
        (["photos/a.png", "--top", "0"], "model.onnx", 2, "--top"),
        (["photos/a.png", "--out", "photos"], "model.onnx", 2, "among the images"),
        (["photos/a.png"], "empty.onnx", 1, "empty.onnx is empty"),
        (["photos/a.png"], "rubbish.onnx", 1, "rubbish.onnx cannot be loaded"),
        (["photos/a.png"], "other.onnx", 1, "no nanocv model card"),
        (["photos/a.png"], "newer.onnx", 1, "'telepathy'"),
        (["photos/a.png"], "nan.onnx", 1, "NaN"),
    ],
)
def test_what_cannot_be_done_is_one_line_what_and_one_line_what_to_do(
    nanocv: Nanocv, tmp_path: Path, arguments: list[str], model: str | None, status: int, message: str
) -> None:
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "rubbish.onnx").write_bytes(b"rubbish")
    write_graph(tmp_path / "other.onnx", metadata={})
    write_graph(tmp_path / "newer.onnx", colour_card(task="telepathy"))
    write_graph(tmp_path / "nan.onnx", strength=float("nan"))
    outcome = nanocv(*arguments, "--json", model=model)
    assert outcome.status == status
    what, advice = outcome.err.splitlines()
    assert message in what
    assert advice.startswith("  try: ")
    assert [line["error"]["message"] in what for line in outcome.lines] == [True]  # type: ignore[index]


def test_a_live_count_on_a_terminal_for_more_than_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    for count, is_shown in ((infer.LIVE_AFTER, False), (infer.LIVE_AFTER + 3, True)):
        monkeypatch.setattr(sys, "stderr", Terminal())
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        assert list(infer._counted(iter(range(count)))) == list(range(count))
        assert (f"{count} images" in sys.stderr.getvalue()) is is_shown
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert list(infer._counted(iter(range(count)))) == list(range(count))
    assert sys.stderr.getvalue() == ""  # there the answers themselves show how far it is
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert list(infer._counted(iter(range(count)))) == list(range(count))
    assert sys.stderr.getvalue() == ""  # a line now and then, as elsewhere


def test_a_line_now_and_then_elsewhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(infer, "SECONDS_BETWEEN_LINES", 0.0)
    assert list(infer._counted(iter("abc"))) == ["a", "b", "c"]
    assert capsys.readouterr().err.splitlines() == ["1 images", "2 images", "3 images"]


class TestInAProcessOfItsOwn:
    """What only shows from outside: imported modules, pipes and signals."""

    @pytest.fixture
    def process(self, nanocv: Nanocv, tmp_path: Path) -> subprocess.Popen[bytes]:
        """`nanocv infer photos/a.png -`, which has answered the first image and waits for standard input."""
        command = [sys.executable, "-m", "nanocv_cli.app", "infer", "photos/a.png", "-", "--batch-size", "1"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [*command, "--model", "model.onnx"],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout
        assert process.stdout.readline().startswith(b"photos/a.png  red")
        return process

    def test_ctrl_c_ends_with_130_and_no_traceback(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert b"Traceback" not in err

    def test_a_reader_that_leaves_ends_it_quietly(self, process: subprocess.Popen[bytes], tmp_path: Path) -> None:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stdin.write((tmp_path / "photos" / "a.png").read_bytes())
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 0

    def test_no_training_library_is_imported(self, nanocv: Nanocv, tmp_path: Path) -> None:
        """The command's own work; newer versions of typer import pydantic to read the command line."""
        script = (
            "import sys\n"
            "from nanocv_cli.commands.infer import infer\n"
            "infer(['photos/a.png'], ref='model.onnx', out='out')\n"
            "heavy = {'torch', 'torchvision', 'onnx', 'pydantic', 'matplotlib', 'rich', 'yaml'}\n"
            "print(sorted(heavy & set(sys.modules)))"
        )
        script = script.replace("out='out'", "out=__import__('pathlib').Path('out')")
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == "[]"
