"""What a report is about: a model's file, its card, the run that it belongs to, and how it answers."""

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from nanocv_cli.config.project import shown
from nanocv_cli.data.dataset import Dataset
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.graph import Graph
from nanocv_cli.engine.reference import default_model, find_graph, run_of
from nanocv_cli.report.run_records import History, Summary, read_history, read_origins, read_summary
from nanocv_cli.report.section import Found, attempt
from nanocv_cli.rooms import Score, room

if TYPE_CHECKING:  # the training side imports torch
    from nanocv_cli.evaluation.evidence import Evidence

NO_RUN = "{} is no run folder, and only those keep it"


@dataclass(frozen=True)
class Subject:
    """A model that is reported on.

    Attributes:
        ref: what the user named.
        graph: its `.onnx` file.
        card: its card.
        score: the metric that its task is evaluated by.
        run: its run folder; None where it lies in none.
        origins: where the values of its config came from.
        history: its epochs.
        summary: how its training ended.
    """

    ref: str
    graph: Path
    card: ModelCard
    score: Score
    run: Path | None
    origins: Found[dict[str, str]]
    history: Found[History]
    summary: Found[Summary]

    @property
    def name(self) -> str:
        """What to call it: its run folder's name, else its file's."""
        return self.run.resolve().name if self.run else self.graph.stem

    @property
    def drawn(self) -> list[Path]:
        """The images that the run drew at its end, those that are still there; their names alone are taken from it."""
        if self.run is None or self.summary.value is None:
            return []
        return [path for told in self.summary.value.pictures if (path := self.run / PurePath(told).name).is_file()]

    @property
    def place(self) -> str:
        """Where it lies, for people."""
        return shown(self.run or self.graph)


@dataclass(frozen=True)
class Story:
    """All that is known of one model.

    Attributes:
        subject: which it is.
        evidence: its answers to the images it is evaluated on.
        dataset: what it was trained on.
    """

    subject: Subject
    evidence: "Found[Evidence]"
    dataset: Found[Dataset[Any]]


def find_subject(ref: str | None, root: Path) -> Subject:
    """The model of a reference and whatever its run keeps.

    Args:
        ref: a name, run folder or model file; None: the project's default model.
        root: the project.

    Raises:
        RequestError: there is nothing of that name.
        ModelError: no graph was exported, it is damaged, or of a task that is not known.
    """
    graph = find_graph(ref, root)
    card = Graph(graph).card
    score = room(card.task).score
    named = ref or default_model(root)
    run = run_of(graph)
    if run is None:
        why_not = NO_RUN.format(shown(graph))
        return Subject(named, graph, card, score, None, *(Found(None, why_not) for _ in range(3)))
    return Subject(
        ref=named,
        graph=graph,
        card=card,
        score=score,
        run=run,
        origins=attempt(lambda: read_origins(run)),
        history=attempt(lambda: read_history(run)),
        summary=attempt(lambda: read_summary(run)),
    )
