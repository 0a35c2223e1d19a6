"""What is wrong with a set: unreadable and empty files, copies, leakage between splits, lonely classes, stray files."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nanocv_cli.data.balance import imbalance
from nanocv_cli.data.dataset import SPLITS, Dataset, Sample, Samples
from nanocv_cli.data.labels.base import Problem
from nanocv_cli.data.splitting import content_hash
from nanocv_cli.folders import is_file
from nanocv_cli.images.resize import UnreadableImageError, measure_image
from nanocv_cli.machine import usable_processors

SMALL_SIDE = 32
IGNORED_NAMES = {"Thumbs.db", "desktop.ini"}


class _Member(NamedTuple):
    """An image of a split, and how messages name it."""

    split: str
    sample: Sample[Any]
    shown: str


@dataclass(frozen=True)
class _Seen:
    content: str
    problem: str
    sides: tuple[int, int]


def check_dataset(dataset: Dataset[Any], progress: Callable[[int, int], None] | None = None) -> list[Problem]:
    """Opens every image of a set and reports what stands against training on it, errors first.

    Copies are found by content of the file. A leak is a copy in another split, a conflict one under another label.
    """
    members = [member for split in SPLITS for member in _members(split, dataset.splits.get(split, ()))]
    seen: list[_Seen] = []
    with ThreadPoolExecutor(usable_processors()) as pool:
        for done, result in enumerate(pool.map(lambda member: _look(member.sample), members), start=1):
            seen.append(result)
            if progress:
                progress(done, len(members))
    findings = [
        Problem("error", "unreadable", f"{split}: {shown}: {look.problem}", (shown,))
        for (split, _, shown), look in zip(members, seen, strict=True)
        if look.problem
    ]
    findings += _copies(members, seen)
    findings += [
        Problem(
            "warning",
            "small",
            f"{split}: {shown} is only {look.sides[0]}x{look.sides[1]} pixels",
            (shown,),
        )
        for (split, _, shown), look in zip(members, seen, strict=True)
        if not look.problem and min(look.sides) < SMALL_SIDE
    ]
    for (split, sample, _), look in zip(members, seen, strict=True):
        if not look.problem:
            findings += sample.label.check(split, sample.path, look.sides)
    for split in SPLITS:
        findings += _tallied(split, dataset.splits.get(split, ()))
    learnt_from = dataset.split("train").labels if dataset.splits.get("train") else ()
    if learnt_from and not learnt_from[0].is_opened and (found := imbalance(learnt_from, dataset.classes)):
        findings.append(Problem("warning", "imbalance", f"train: {found}"))
    findings += _strays({member.sample.path for member in members})
    findings += [Problem("warning", "note", note) for note in dataset.notes]
    return sorted(findings, key=lambda finding: finding.level)


def _members(split: str, samples: Sequence[Sample[Any]]) -> Iterator[_Member]:
    paths = Samples.of(samples).paths
    return (_Member(split, sample, paths.shown(place)) for place, sample in enumerate(samples))


def _look(sample: Sample[Any]) -> _Seen:
    try:
        image = sample.image()
        return _Seen(content_hash(image), "", measure_image(image))
    except UnreadableImageError as error:
        return _Seen("", error.message, (0, 0))


def _tallied(split: str, samples: Sequence[Sample[Any]]) -> list[Problem]:
    """What is no mistake but good to know of a split's labels, each with how often it is there."""
    counts: Counter[tuple[str, str]] = Counter()
    for sample in samples:
        counts.update(sample.label.tally())
    return [Problem("warning", kind, f"{split}: {count} {what}") for (kind, what), count in counts.items() if count]


def _copies(members: list[_Member], seen: list[_Seen]) -> list[Problem]:
    by_content: dict[str, list[_Member]] = defaultdict(list)
    for member, look in zip(members, seen, strict=True):
        if not look.problem:
            by_content[look.content].append(member)
    findings = []
    for copies in by_content.values():
        if len(copies) < 2:
            continue
        # A file that two splits name is one path.
        paths = tuple(dict.fromkeys(copy.shown for copy in copies))
        splits = sorted({copy.split for copy in copies}, key=SPLITS.index)
        if len({copy.sample.label.content() for copy in copies}) > 1:
            findings.append(
                Problem("error", "conflict", f"one image under different labels: {', '.join(paths)}", paths)
            )
        if len(splits) > 1:
            findings.append(Problem("error", "leak", f"one image in {' and '.join(splits)}: {', '.join(paths)}", paths))
        else:
            findings.append(Problem("warning", "duplicate", f"copies in {splits[0]}: {', '.join(paths)}", paths))
    return findings


def _strays(known: set[Path]) -> list[Problem]:
    """Files in folders of images that are no images, counted by suffix."""
    strays = [
        entry
        for folder in sorted({path.parent for path in known})
        for entry in _listed(folder)
        if is_file(entry) and entry not in known and not entry.name.startswith(".") and entry.name not in IGNORED_NAMES
    ]
    suffixes = Counter(entry.suffix or entry.name for entry in strays)
    return [
        Problem(
            "warning",
            "stray",
            f"{count} file{'s' if count > 1 else ''} of type {suffix} among the images, passed over",
            tuple(str(entry) for entry in strays if (entry.suffix or entry.name) == suffix),
        )
        for suffix, count in sorted(suffixes.items())
    ]


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # its images are unreadable, which is said of each
        return []
