"""Files by which a server is put into service: of the form that their readers publish, and as careful as they say.

No container is built here: that takes a builder and a registry.
"""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from nanocv_cli.app import app
from nanocv_cli.serving.repository.entry import write_entry
from nanocv_cli.serving.repository.targets import DEFAULT_IMAGE, compose, inference_service
from tests.conftest import REPOSITORY
from tests.serving.repository.entries import graph, settings

DEPLOY = REPOSITORY / "deploy"
SCHEMAS = Path(__file__).with_name("schemas")
# By whose schema a file is held against: in `schemas/`, and what reads schemas of that form.
COMPOSE = ("compose.json", "Draft201909Validator")
INFERENCE_SERVICE = ("inference_service.json", "Draft7Validator")


def document(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


def errors(schema: tuple[str, str], content: Any) -> list[str]:
    import jsonschema  # takes seconds, which would be spent whenever tests are collected

    name, reader = schema
    validator = getattr(jsonschema, reader)(json.loads((SCHEMAS / name).read_text(encoding="utf-8")))
    return [f"{list(error.absolute_path)}: {error.message}" for error in validator.iter_errors(content)]


def unit() -> dict[str, list[str]]:
    """The settings of the unit; a key may stand several times."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "nanocv.service").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def container() -> list[tuple[str, str]]:
    """The instructions of the last stage of the Containerfile, and their arguments."""
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    last = max(place for place, (name, _) in enumerate(lines) if name == "FROM")
    assert [name for name, _ in lines if name == "FROM"] == ["FROM", "FROM"]
    return [(name, rest) for name, rest in lines[last:]]


def command_lines() -> dict[str, list[str]]:
    """What each file runs, from `serve run` on."""
    said = dict(container())
    entry, rest = json.loads(said["ENTRYPOINT"]), json.loads(said["CMD"])
    kserve = document("kserve.yaml")["spec"]["predictor"]["containers"][0]
    return {
        "nanocv.service": shlex.split(unit()["ExecStart"][0]),
        "Containerfile": entry + rest,
        "compose.yaml": entry + document("compose.yaml")["services"]["nanocv"]["command"],
        "kserve.yaml": kserve["command"] + kserve["args"],
    }


@pytest.mark.parametrize("name", command_lines())
def test_each_starts_the_server_with_options_that_it_has_and_asks_for_keys(name: str) -> None:
    program, *words = command_lines()[name]
    assert program == "/opt/nanocv/bin/nanocv"
    assert words[:2] == ["serve", "run"]
    command: Any = typer.main.get_command(app)
    for word in words[:2]:
        command = command.commands[word]
    with command.make_context("run", words[2:], resilient_parsing=False) as context:
        given = context.params
    assert given["key_file"]
    assert not given["insecure"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
def test_the_unit_is_hardly_exposed() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(DEPLOY / "nanocv.service")]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=60)
    level = re.search(r"Overall exposure level for nanocv.service: ([\d.]+)", outcome.stdout)
    assert level, outcome.stderr
    assert (outcome.returncode, float(level[1]) < 2.0) == (0, True), outcome.stdout
    known = ["systemd-analyze", "verify", str(DEPLOY / "nanocv.service")]
    said = subprocess.run(known, capture_output=True, text=True, timeout=60)
    lines = [line for line in (said.stdout + said.stderr).splitlines() if "nanocv.service" in line]
    assert [line for line in lines if "is not executable" not in line] == []


def test_the_unit_gives_the_server_time_to_end_and_hears_of_new_keys() -> None:
    said = unit()
    assert int(said["TimeoutStopSec"][0]) > 30
    assert said["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert said["User"] == ["nanocv"]


def test_the_container_is_run_by_a_user_that_is_a_number_and_not_root() -> None:
    said = dict(container())
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", said["USER"])
    assert [name for name, _ in container() if name not in ("FROM", "ENV", "COPY", "WORKDIR")] == [
        *("USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD")
    ]
    user = said["USER"].split(":")
    pod = document("kserve.yaml")["spec"]["predictor"]["securityContext"]
    assert [str(pod["runAsUser"]), str(pod["runAsGroup"])] == user
    assert document("compose.yaml")["services"]["nanocv"]["user"].split(":") == user
    for name, rest in container():
        if name == "COPY":
            assert rest.startswith("--from=build ")


def test_the_health_check_is_in_the_image_and_waits_less_than_it_may() -> None:
    options, _, command = dict(container())["HEALTHCHECK"].partition(" CMD ")
    script = json.loads(command)[1]
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    assert f"COPY deploy/{Path(script).name} {Path(script).parent}/" in text.partition("FROM ${BASE}\n")[0]
    seconds = re.search(r"^SECONDS = ([\d.]+)", (DEPLOY / Path(script).name).read_text(encoding="utf-8"), re.MULTILINE)
    allowed = re.search(r"--timeout=(\d+)s", options)
    assert seconds and allowed and 2 * float(seconds[1]) < float(allowed[1])


def test_what_the_build_copies_is_there() -> None:
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line]
    assert copied
    for name in [name for names in copied for name in names]:
        assert (REPOSITORY / name).exists()


def test_compose_and_kserve_take_the_files() -> None:
    assert errors(COMPOSE, document("compose.yaml")) == []
    assert errors(INFERENCE_SERVICE, document("kserve.yaml")) == []


def test_their_roots_are_read_only_and_nothing_is_gained() -> None:
    service = document("compose.yaml")["services"]["nanocv"]
    assert service["read_only"] and service["volumes"][0]["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    predictor = document("kserve.yaml")["spec"]["predictor"]
    context = predictor["containers"][0]["securityContext"]
    assert context["readOnlyRootFilesystem"] and context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert predictor["securityContext"]["runAsNonRoot"]


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_the_files_that_serve_config_writes_are_taken_too(tmp_path: Path, kind: str) -> None:
    chosen = settings(kind=kind)
    entry = write_entry(graph(tmp_path), tmp_path / "models", chosen)
    assert errors(COMPOSE, compose(entry, chosen, tmp_path, DEFAULT_IMAGE)) == []
    assert errors(INFERENCE_SERVICE, inference_service(entry, chosen, "s3://b/m", DEFAULT_IMAGE)) == []


def test_the_schemas_refuse_what_is_misspelt() -> None:
    wrong = document("compose.yaml")
    wrong["services"]["nanocv"]["readonly"] = True
    assert errors(COMPOSE, wrong)
    wrong = document("kserve.yaml")
    wrong["spec"]["predictor"]["containers"][0]["readinessProbe"]["httpGet"]["pat"] = "/"
    assert errors(INFERENCE_SERVICE, wrong)
