"""`nanocv serve`: config, which writes a model's entry, and list, which shows them all."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nanocv_cli.commands.completion import completing, config_names
from nanocv_cli.commands.options import (
    DebugFlag,
    JsonFlag,
    RefOption,
    SetOption,
    end_as_failed,
    numbers,
)
from nanocv_cli.output import emit, say, tell


class Target(StrEnum):
    """Where the entry will be served."""

    triton = "triton"
    compose = "compose"
    kserve = "kserve"


ServeOption = Annotated[
    str | None,
    typer.Option("--serve", help="A serve config's name or file.", autocompletion=completing(config_names("serve"))),
]


def config(
    ref: RefOption = None,
    serve: ServeOption = None,
    backend: Annotated[str | None, typer.Option(help="onnxruntime, openvino or python.")] = None,
    encoded: Annotated[
        bool | None, typer.Option("--encoded", help="Clients send images as files: JPEG, PNG or WebP.")
    ] = None,
    max_batch: Annotated[int | None, typer.Option(help="Most images run at once.")] = None,
    queue_delay_us: Annotated[int | None, typer.Option(help="Longest wait for a fuller batch, usec.")] = None,
    preferred: Annotated[str | None, typer.Option(metavar="N,N", help="Batch sizes run without waiting.")] = None,
    instances: Annotated[int | None, typer.Option(help="Copies that run side by side.")] = None,
    kind: Annotated[str | None, typer.Option(help="cpu or gpu.")] = None,
    precision: Annotated[str | None, typer.Option(help="What openvino computes in: fp32 or bf16.")] = None,
    threads: Annotated[int | None, typer.Option(help="Of each copy; 0: the server chooses.")] = None,
    from_bench: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON of a bench: serve what it names, as it says.")
    ] = None,
    overrides: SetOption = None,
    name: Annotated[str | None, typer.Option(help="The entry's name; default: the model's.")] = None,
    version: Annotated[int | None, typer.Option(help="Default: the next, if the graph is new.")] = None,
    repository: Annotated[Path, typer.Option(help="The model repository.")] = Path("model_repository"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; list what would change.")] = False,
    target: Annotated[Target, typer.Option(help="Also write a file for docker compose or KServe.")] = Target.triton,
    storage_uri: Annotated[str | None, typer.Option(help="KServe: where the cluster finds the repository.")] = None,
    image: Annotated[str | None, typer.Option(help="Triton's image; default: NVIDIA's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of that file; default: the repository's.")] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Write a model's entry in a Triton model repository.

    An entry is config.pbtxt, the labels and one folder per version; a new graph becomes the next version. It is
    replaced in one step, so a server may poll the folder meanwhile. With --check nothing is written and the exit
    status is 1 where something would change. With --from-bench the graph, engine, threads and batch are those that a
    bench has named, but for the options that are given as well.

    \b
    Examples:
      nanocv serve config --model lenet-flowers --max-batch 4
      nanocv serve config --model lenet-flowers --encoded
      nanocv serve config --from-bench bench.json
      nanocv serve config --model lenet.onnx --check
    """
    from nanocv_cli.config.loader import resolve_serve
    from nanocv_cli.config.project import project_root
    from nanocv_cli.engine.reference import find_graph
    from nanocv_cli.errors import RequestError, ServingError
    from nanocv_cli.files import expect_folder, expect_writable
    from nanocv_cli.serving.repository import targets
    from nanocv_cli.serving.repository.entry import check_entry, write_entry
    from nanocv_cli.serving.repository.model_config import LONGEST_CARD
    from nanocv_cli.serving.repository.versions import bring_versions

    options = {
        "backend": backend,
        "encoded": encoded,
        "max_batch": max_batch,
        "queue_delay_us": queue_delay_us,
        "preferred": None if preferred is None else numbers("--preferred", preferred, 1, 4096),
        "instances": instances,
        "kind": kind,
        "precision": precision,
        "threads": threads,
    }
    graph: Path | None = None
    if from_bench:
        from nanocv_cli.bench.taken import read_choice

        taken = read_choice(from_bench)
        graph = taken.graph
        if graph and ref is not None:
            raise RequestError(f"{from_bench} names the graph that was measured, {graph}", "leave --model out")
        options = taken.settings | {key: value for key, value in options.items() if value is not None}
        say(f"{from_bench}: {', '.join(f'{key} {value}' for key, value in taken.settings.items())} ({taken.rule})")
    for folder in (repository, out):
        if folder:
            expect_folder(folder)
    if target is not Target.triton:
        expect_writable((out or repository.absolute().parent) / f"{target}.yaml")
    settings = resolve_serve(serve, options, overrides or ())
    if target is Target.kserve:
        targets.check_storage_uri(storage_uri)
    root = project_root()
    if not check:
        bring_versions(repository, root)  # else a new graph would take the number of one that is not here
    act = check_entry if check else write_entry
    entry = act(graph or find_graph(ref, root), repository, settings, name, version)
    if not entry.has_card:
        say(
            f"note: the model card is too long for {entry.config} ({LONGEST_CARD:,} characters at most): it stays "
            "behind, so infer, eval and sample cannot ask this model by its URL; other clients can"
        )
    document = {
        "model": entry.model,
        "repository": str(entry.repository),
        "config": str(entry.config),
        "version": entry.version,
        "differences": list(entry.differences),
    }
    if check:
        if as_json:
            emit(document)
        for line in () if as_json else entry.differences:
            tell(line)
        if entry.differences:
            end_as_failed(
                ServingError(
                    f"{entry.config.parent} is not as it shall be: {len(entry.differences)} differences",
                    "the same command without --check writes it",
                )
            )
        say(f"{entry.config.parent} is as it shall be")
        return
    say(f"version {entry.version} {'written' if entry.differences else 'is as it shall be: nothing written'}")
    folder, image = out or repository.resolve().parent, image or targets.DEFAULT_IMAGE
    if target is not Target.triton:
        if target is Target.kserve:
            path = targets.write_kserve(entry, settings, folder, storage_uri, image)
        else:
            path = targets.write_compose(entry, settings, folder, image)
        document["deployment"] = str(path)
        if settings.backend == "python":
            say(f"warning: model.py needs onnxruntime in the image's Python; {image} may not have it (--image)")
    if as_json:
        emit(document)
        return
    tell(str(entry.config), *entry.config.read_text(encoding="utf-8").splitlines())
    if "deployment" in document:
        tell(str(document["deployment"]))


def list_models(
    repository: Annotated[Path, typer.Option(help="The model repository.")] = Path("model_repository"),
    out: Annotated[Path | None, typer.Option(help="Also draw the tree: PNG to write.")] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Show what a model repository holds, as a tree.

    \b
    Example:
      nanocv serve list --out tree.png
    """
    from nanocv_cli.config.project import project_root
    from nanocv_cli.files import expect_writable
    from nanocv_cli.serving.repository.listing import list_entries, tree, write_tree
    from nanocv_cli.serving.repository.versions import bring_versions

    if out:
        expect_writable(out)
    bring_versions(repository, project_root())
    entries = list_entries(repository)
    lines = tree(repository, entries)
    if out:
        write_tree(lines, out)
    if as_json:
        models = [entry.to_json() for entry in entries]
        emit({"repository": str(repository), "models": models, "image": str(out) if out else None})
        return
    width = max(len(line.text(0)) - len(line.note) for line in lines)
    tell(*(line.text(width) for line in lines))
    if out:
        say(f"image: {out}")
