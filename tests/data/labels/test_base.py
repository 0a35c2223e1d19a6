"""A type of label that the package does not know: a number for each image, made here and by everybody else's rules."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.data.check import check_dataset
from nanocv_cli.data.contact_sheet import write_contact_sheet
from nanocv_cli.data.dataset import Dataset, Sample
from nanocv_cli.data.labels.base import Label, Problem
from nanocv_cli.evaluation.measure import match_classes


@dataclass(frozen=True)
class Amount(Label):
    """How much of something an image shows."""

    plural = "amounts"

    value: float
    of: int = 0

    def check(self, split: str, path: Path, size: tuple[int, int]) -> Iterator[Problem]:
        if self.value < 0:
            yield Problem("error", "negative", f"{split}: {path}: {self.value}", (str(path),))

    def tally(self) -> Mapping[tuple[str, str], int]:
        return {("nothing", "images of nothing"): int(self.value == 0)}

    def classes(self) -> set[int]:
        return {self.of}

    def draw(self, image: NDArray[np.uint8], names: tuple[str, ...]) -> NDArray[np.uint8]:
        return np.full_like(image, int(self.value))

    def remap(self, numbers: Sequence[int]) -> "Amount":
        return Amount(self.value, numbers[self.of])


def amounts(folder: Path, values: list[float]) -> Dataset[Amount]:
    samples = []
    for number, value in enumerate(values):
        path = folder / f"{number}.png"
        Image.fromarray(np.full((40, 40, 3), number, np.uint8)).save(path)
        samples.append(Sample(path, Amount(value)))
    return Dataset("set", folder, ("flowers",), {"train": tuple(samples), "val": ()})


def test_a_label_of_another_package_is_checked_by_its_own_rules(tmp_path: Path) -> None:
    findings = check_dataset(amounts(tmp_path, [3.0, -1.0, 0.0, 0.0]))
    assert [(finding.kind, finding.message) for finding in findings] == [
        ("negative", f"train: {tmp_path / '1.png'}: -1.0"),
        ("nothing", "train: 2 images of nothing"),
    ]


def test_copies_are_a_conflict_where_labels_differ(tmp_path: Path) -> None:
    dataset = amounts(tmp_path, [3.0, 4.0])
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes())
    assert {finding.kind for finding in check_dataset(dataset)} == {"conflict", "duplicate"}


def test_a_label_of_another_package_is_drawn_by_itself(tmp_path: Path) -> None:
    assert write_contact_sheet(amounts(tmp_path, [200.0, 200.0]), "train", tmp_path / "sheet.png") == 2
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert (np.asarray(sheet)[-50, 50] == 200).all()


def test_the_fingerprint_follows_the_label(tmp_path: Path) -> None:
    first, second, third = (amounts(tmp_path, [value]).fingerprint() for value in (1.0, 2.0, 1.0))
    assert first != second
    assert first == third


def test_labels_take_the_numbers_of_a_models_classes(tmp_path: Path) -> None:
    matched = match_classes(amounts(tmp_path, [5.0]), ("cats", "flowers"))
    assert matched.split("train")[0].label == Amount(5.0, 1)
