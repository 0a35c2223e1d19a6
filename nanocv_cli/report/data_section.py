"""The set that a model was trained on: its images, how many show each class, and what stands against training on it."""

from collections import Counter
from typing import Any

from nanocv_cli.data.check import check_dataset
from nanocv_cli.data.contact_sheet import LOOKED_AT, class_rows, looked_at
from nanocv_cli.data.dataset import SPLITS, Dataset
from nanocv_cli.display import Display
from nanocv_cli.report.exhibit_markup import image_markup
from nanocv_cli.report.markup import Html, brief, element, folded, joined, note, table
from nanocv_cli.report.section import Found, Section

TITLE = "What it learnt from"
SHOWN_CLASSES, PER_CLASS = 40, 6
MOST_FINDINGS = 50
BAR = 120.0  # pixels of the longest


def data_section(found: Found[Dataset[Any]], display: Display) -> Section:
    """Contact sheet, class balance and findings of `nanocv data check`."""
    dataset = found.value
    if dataset is None:
        return Section("data", TITLE, None, found.why_not)
    present = [split for split in SPLITS if dataset.splits.get(split)]
    counts = ", ".join(f"{len(dataset.splits[split]):,} {split}" for split in present)
    told = [
        note(f"{dataset.name}: {len(dataset.classes)} classes; images: {counts}. The set as it is here and now."),
        _sheet(dataset),
        element("h3", "Images that show each class"),
        _balance(dataset, present),
        _findings(dataset, display),
    ]
    return Section("data", TITLE, joined(told))


def _sheet(dataset: Dataset[Any]) -> Html:
    rows = class_rows(dataset, "train", PER_CLASS)
    shown = [
        element(
            "div",
            element("h3", row.name),
            element("div", *(image_markup(tile, row.name) for tile in row.tiles), class_="tiles-of-class"),
        )
        for row in rows[:SHOWN_CLASSES]
    ]
    if len(rows) > SHOWN_CLASSES:
        shown.append(note(f"{len(rows) - SHOWN_CLASSES} more classes are not shown: nanocv data show draws them."))
    return element("div", *shown, class_="sheet")


def _balance(dataset: Dataset[Any], splits: list[str]) -> Html:
    counts: dict[str, Counter[int]] = {}
    for split in splits:
        counts[split] = Counter(label for _, classes in looked_at(dataset.splits[split]) for label in classes)
    most = max((counts[splits[0]][label] for label in range(len(dataset.classes))), default=0) or 1
    rows = [
        (name, *(counts[split][label] for split in splits), _bar(counts[splits[0]][label] / most))
        for label, name in enumerate(dataset.classes)
    ]
    balance = table(["class", *splits, f"share of {splits[0]}"], rows, words=(0, len(splits) + 1), sortable=True)
    is_part = any(len(samples) > LOOKED_AT and samples[0].label.is_opened for samples in dataset.splits.values())
    what = f"Counted in at most {LOOKED_AT} images of each split, evenly spread. " if is_part else ""
    return joined(
        [brief(balance, len(rows), "classes"), note(f"{what}An image counts once for each class that it shows.")]
    )


def _bar(share: float) -> Html:
    bar = element("rect", width=round(BAR * share, 1), height=10, rx=3)
    return element(
        "svg", bar, viewBox=f"0 0 {BAR:g} 10", class_="bar", role="img", aria_label=f"{share:.0%} of the most"
    )


def _findings(dataset: Dataset[Any], display: Display) -> Html:
    with display.bar(f"checking {dataset.name}") as progress:
        findings = check_dataset(dataset, progress)
    errors = sum(finding.level == "error" for finding in findings)
    words = f"nanocv data check finds {errors} errors and {len(findings) - errors} warnings."
    if not findings:
        return note(words)
    rows = [(finding.level, finding.kind, finding.message) for finding in findings[:MOST_FINDINGS]]
    parts = [table(["level", "kind", "what"], rows, words=(0, 1, 2))]
    if len(findings) > MOST_FINDINGS:
        parts.append(note(f"{len(findings) - MOST_FINDINGS} more: nanocv data check {dataset.name}"))
    return joined([note(words), folded(f"The first {len(rows)}", *parts)])
