"""What a worker makes sure of before it answers, and the file that it leaves; no cluster is needed for it."""

import dataclasses
import fcntl
import json
import os
from pathlib import Path

import pytest

from nanocv_cli import __version__
from nanocv_cli.cluster.job import open_job
from nanocv_cli.cluster.parts import Asked, Part, answer_part, model_hash
from nanocv_cli.errors import ClusterError, DataError, NanocvError, RequestError
from tests.engine.graphs import write_graph
from tests.images.image_bytes import write_image

PLACES = ["a.png", "bad.png", "b.png"]


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    graph = write_graph(tmp_path / "model.onnx")
    write_image(tmp_path / "a.png", "red")
    write_image(tmp_path / "b.png", "blue")
    (tmp_path / "bad.png").write_bytes(b"broken")
    return Asked(
        arguments=tuple(PLACES),
        folder=str(tmp_path),
        model=str(graph),
        model_hash=model_hash(graph),
        runtime="onnxruntime",
        precision="fp32",
        top=1,
        batch_size=2,
        tile=0,
        part_images=2,
        version=__version__,
    )


def test_a_part_is_written_with_its_failures_in_their_places(asked: Asked, tmp_path: Path) -> None:
    with open_job(tmp_path / "out", asked, PLACES) as job:
        first, last = job.parts()
        assert (first.places, last.places) == (PLACES[:2], PLACES[2:])
        assert job.whole(first) is None
        whole = answer_part(asked, first, str(job.folder), threads=1)
        assert whole == job.whole(first)
    assert (whole.images, whole.skipped) == (2, 1)
    assert whole.problems == [("bad.png", "not an image in a format that nanocv reads")]
    lines = [json.loads(line) for line in (tmp_path / "out" / whole.name).read_text().splitlines()]
    assert [line["path"] for line in lines] == ["a.png", "bad.png"]
    assert [one["label"] for one in lines[0]["predictions"]] == ["red"]


def test_a_listing_is_made_once(asked: Asked, tmp_path: Path) -> None:
    with open_job(tmp_path / "out", asked, PLACES) as job:
        assert job.images == 3
    with open_job(tmp_path / "out", asked, (_ for _ in ["others", "that came since"])) as job:
        assert [part.places for part in job.parts()] == [PLACES[:2], PLACES[2:]]
    # A job that was killed after it was listed, before it was recorded, is listed again.
    (tmp_path / "out" / "job.json").unlink()
    with open_job(tmp_path / "out", asked, PLACES[:1]) as job:
        assert job.images == 1


def test_paths_that_are_no_utf8(asked: Asked, tmp_path: Path) -> None:
    name = b"\xff.png".decode(errors="surrogateescape")
    with open_job(tmp_path / "out", asked, [name]) as job:
        assert [part.places for part in job.parts()] == [[name]]
    for changed in (
        dataclasses.replace(asked, arguments=("a.png", name)),
        dataclasses.replace(asked, folder=name),
        dataclasses.replace(asked, model=name),
    ):
        with (
            pytest.raises(RequestError, match=r"\\udcff\.png is no UTF-8"),
            open_job(tmp_path / "other", changed, PLACES),
        ):
            pass
    assert not (tmp_path / "other").exists()


def test_nothing_is_listed_in_a_folder_that_another_call_has(asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    held = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(RequestError, match="another process is at work"), open_job(tmp_path / "out", asked, PLACES):
        pass
    os.close(held)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "0.0.0"}, "this job is of 0.0.0"),
        ({"model_hash": "0"}, "is another model on"),
        ({"model": "/nowhere/model.onnx"}, "cannot read /nowhere/model.onnx"),
    ],
)
def test_a_machine_that_has_another_nanocv_or_model(
    asked: Asked, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    with open_job(tmp_path / "out", asked, PLACES) as job, pytest.raises(ClusterError, match=message):
        answer_part(dataclasses.replace(asked, **changes), next(job.parts()), str(job.folder), threads=1)  # type: ignore[arg-type]
    assert not list((tmp_path / "out").glob("part-*"))


def test_a_machine_that_does_not_see_the_folder(asked: Asked, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="does not see"):
        answer_part(asked, Part("part-00000000.jsonl", PLACES[:2]), str(tmp_path / "unshared"), threads=1)
    assert not (tmp_path / "unshared").exists()


def test_a_record_that_is_none(asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "job.json").write_text('{"images": "many"}')
    with pytest.raises(DataError), open_job(tmp_path / "out", asked, PLACES):
        pass


def test_an_outage_ends_a_part_and_marks_no_image_as_unreadable(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nanocv_cli.images.remote_files import RemoteFile

    def fail(self: RemoteFile) -> bytes:
        raise DataError("the store does not answer")

    monkeypatch.setattr(RemoteFile, "read", fail)
    places = ["a.png", "s3://bucket/a.png"]
    with open_job(tmp_path / "out", asked, places) as job, pytest.raises(NanocvError, match="does not answer"):
        answer_part(asked, next(job.parts()), str(job.folder), threads=1)
    assert not list((tmp_path / "out").glob("part-*"))
