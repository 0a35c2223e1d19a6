"""`nanocv serve`: config."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nanocv_cli.commands.common import DebugFlag, JsonFlag, RefOption, SetOption, end_as_failed, numbers
from nanocv_cli.output import emit, say, tell


class Target(StrEnum):
    """Where the entry will be served."""

    triton = "triton"
    compose = "compose"
    kserve = "kserve"


ServeOption = Annotated[str | None, typer.Option("--serve", help="A serve config's name or file.")]


def config(
    ref: RefOption = None,
    serve: ServeOption = None,
    backend: Annotated[str | None, typer.Option(help="onnxruntime or python.")] = None,
    max_batch: Annotated[int | None, typer.Option(help="Most images run at once.")] = None,
    queue_delay_us: Annotated[int | None, typer.Option(help="Longest wait for a fuller batch, usec.")] = None,
    preferred: Annotated[str | None, typer.Option(metavar="N,N", help="Batch sizes run without waiting.")] = None,
    instances: Annotated[int | None, typer.Option(help="Copies that run side by side.")] = None,
    kind: Annotated[str | None, typer.Option(help="cpu or gpu.")] = None,
    threads: Annotated[int | None, typer.Option(help="ONNX Runtime threads; 0: it chooses.")] = None,
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
    """Write a model's entry in a Triton model repository."""
    from nanocv_cli.config.loader import resolve_serve
    from nanocv_cli.config.project import project_root
    from nanocv_cli.engine.reference import find_graph
    from nanocv_cli.errors import ServingError
    from nanocv_cli.files import expect_folder, expect_writable
    from nanocv_cli.serving.repository import targets
    from nanocv_cli.serving.repository.entry import check_entry, write_entry

    options = {
        "backend": backend,
        "max_batch": max_batch,
        "queue_delay_us": queue_delay_us,
        "preferred": None if preferred is None else numbers("--preferred", preferred, 1, 4096),
        "instances": instances,
        "kind": kind,
        "threads": threads,
    }
    for folder in (repository, out):
        if folder:
            expect_folder(folder)
    if target is not Target.triton:
        expect_writable((out or repository.absolute().parent) / f"{target}.yaml")
    settings = resolve_serve(serve, options, overrides or ())
    if target is Target.kserve:
        targets.check_storage_uri(storage_uri)
    act = check_entry if check else write_entry
    entry = act(find_graph(ref, project_root()), repository, settings, name, version)
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
