"""A model card as a hub's repository shows it: YAML that the hub reads, and a page for people, both from ours."""

import re

from huggingface_hub import EvalResult, ModelCardData

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.rooms import room
from nanocv_cli.untrusted import is_plain

MARKS = re.compile(r"([!-/:-@\[-`{-~])")  # all punctuation that Markdown may give a meaning to
MOST_CLASSES = 100  # named on the page


def hub_readme(card: ModelCard, repository: str, licence: str, image: str | None) -> str:
    """The text of `README.md`.

    Args:
        card: of the model.
        repository: `owner/name`.
        licence: its identifier on the hub, such as `apache-2.0`.
        image: file of the results within the repository; None where there is none.
    """
    return f"---\n{hub_metadata(card, licence).to_yaml()}\n---\n\n{_page(card, repository, image)}"


def hub_metadata(card: ModelCard, licence: str) -> ModelCardData:
    """What the hub reads: licence, tags, task, data set, and the metrics as its model index has them."""
    tag = room(card.task).pipeline_tag
    data = card.data or "unknown"
    results = [
        EvalResult(
            task_type=tag or card.task,
            dataset_type=data,
            dataset_name=data,
            dataset_split=card.split or None,
            metric_type=name,
            metric_name=name,
            metric_value=value,
        )
        for name, value in _figures(card)
    ]
    return ModelCardData(
        license=licence,
        library_name="nanocv",
        pipeline_tag=tag,
        tags=["nanocv", "onnx", card.task],
        datasets=[data] if card.data else None,
        metrics=[name for name, _ in _figures(card)] or None,
        model_name=card.name,
        eval_results=results or None,
    )


def _figures(card: ModelCard) -> list[tuple[str, float]]:
    """The metrics that are one number each; a name that is none is left out."""
    return [(name, value) for name, value in card.metrics.items() if type(value) in (int, float) and is_plain(name)]


def _page(card: ModelCard, repository: str, image: str | None) -> str:
    classes = ", ".join(map(_text, card.classes[:MOST_CLASSES]))
    more = f", and {len(card.classes) - MOST_CLASSES} more" if len(card.classes) > MOST_CLASSES else ""
    lines = [
        f"# {_text(card.name)}",
        "",
        f"A {_text(card.task)} model, trained by nanocv {_text(card.version)} on {_text(card.data or 'its own set')}.",
        "",
        f"Its {len(card.classes)} classes: {classes}{more}.",
        "",
    ]
    if image:
        lines += [f"![what it answers]({image})", ""]
    lines += [
        "## Use",
        "",
        "    pip install 'nanocv[hub]'",
        f"    {_use(card, repository)}",
        "",
        "```python",
        "import nanocv_cli",
        "",
        f'model = nanocv_cli.load("hf://{repository}")',
        "print(model.card.classes)",
        "```",
        "",
        f"`model.onnx` is the whole model: {_contract(card)}. `model.safetensors` holds the weights, to measure,",
        "analyse or export again. Both carry the model card; neither holds code.",
        "",
    ]
    if figures := _figures(card):
        lines += [f"## Measured on the {_text(card.split or 'held-out')} split", "", "| metric | value |", "|---|---|"]
        lines += [f"| {_text(name)} | {value:.4g} |" for name, value in figures]
        lines += [""]
    lines += [f"Config hash `{_text(card.config_hash)}`; the whole config is in the files' card.", ""]
    return "\n".join(lines)


def _use(card: ModelCard, repository: str) -> str:
    command = "infer photo.jpg" if room(card.task).postprocessor else "sample"
    return f"nanocv {command} --model hf://{repository}"


def _contract(card: ModelCard) -> str:
    side = card.input_size
    if room(card.task).postprocessor:
        return f"it reads uint8 images `[N,{side},{side},3]` (RGB) and answers finished predictions"
    return f"it makes uint8 images `[N,{side},{side},3]` (RGB) from noise and class indices"


def _text(text: str) -> str:
    """A text of others as Markdown only shows it."""
    return MARKS.sub(r"\\\1", text)
