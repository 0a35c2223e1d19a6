"""`nanocv report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nanocv_cli.commands.completion import completing, config_names
from nanocv_cli.commands.options import DebugFlag, JsonFlag, complete_ref
from nanocv_cli.output import emit, tell

if TYPE_CHECKING:
    from nanocv_cli.data.dataset import Dataset
    from nanocv_cli.display import Display
    from nanocv_cli.evaluation.evidence import Evidence
    from nanocv_cli.report.subject import Story, Subject


def report(
    refs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REF]...",
            help="Runs, names or model files; default: the project's model.",
            autocompletion=complete_ref,
        ),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="A GPU config's name or file, for the cost of each layer.",
            autocompletion=completing(config_names("gpu")),
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Tell a run's story in one HTML page, or set several side by side.

    The page needs nothing beside itself: metrics with intervals, mistakes, curves, the set, the config, what each
    layer costs. The model answers its held-out images again for it. Several models are compared with the first.

    \b
    Examples:
      nanocv report runs/first --out first.html
      nanocv report runs/first runs/second
    """
    from nanocv_cli.config.loader import resolve
    from nanocv_cli.config.project import project_root
    from nanocv_cli.display import Display
    from nanocv_cli.files import expect_writable
    from nanocv_cli.report.comparison import write_comparison
    from nanocv_cli.report.subject import find_subject
    from nanocv_cli.report.write_report import write_report

    root = project_root()
    named: list[str | None] = [*(refs or ())] or [None]
    subjects = [find_subject(ref, root) for ref in named]
    device, display = resolve(gpu=gpu).config.gpu, Display()
    expect_writable(out)
    stories = [_story(subject, root, display) for subject in subjects]
    sections = write_report(stories[0], device, out, display) if len(stories) == 1 else write_comparison(stories, out)
    if as_json:
        emit(
            {
                "report": str(out),
                "bytes": out.stat().st_size,
                "models": [{"ref": subject.ref, "name": subject.name, "run": subject.run and str(subject.run)}
                           for subject in subjects],
                "sections": [{"name": section.key, "told": section.body is not None, "why_not": section.why_not}
                             for section in sections],
            }
        )  # fmt: skip
        return
    tell(f"{out}: {', '.join(section.title.lower() for section in sections if section.body is not None)}")
    for section in sections:
        if section.body is None:
            tell(f"left out: {section.title.lower()}: {section.why_not}")


def _story(subject: "Subject", root: Path, display: "Display") -> "Story":
    """A model with the answers it gives; the training side is imported where there is one."""
    from nanocv_cli.config.project import cache_folder
    from nanocv_cli.report.section import attempt
    from nanocv_cli.report.subject import Story

    def gather() -> "Evidence":
        from nanocv_cli.evaluation.evidence import gather_evidence

        return gather_evidence(subject.graph, subject.card, root, cache_folder(root), display)

    def read() -> "Dataset[Any]":
        from nanocv_cli.evaluation.evidence import read_own_set

        return read_own_set(subject.card, subject.graph, root, display)

    return Story(subject, attempt(gather), attempt(read))
