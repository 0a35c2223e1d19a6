"""What runs on others' machines with rights of this project: pinned, with no more rights than it needs."""

import re
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))


def read(name: str) -> Any:
    return yaml.safe_load((REPOSITORY / ".github" / "workflows" / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_hash_and_may_read_at_most(path: Any) -> None:
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"uses: *(\S+)(.*)", text)
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r"  # v\d+\.\d+\.\d+", comment)  # which release that is
    assert yaml.safe_load(text)["permissions"] in ({}, {"contents": "read"})
    # Text of others (titles, names of branches) in a script would be a script.
    for script in re.findall(r"run: (.*)", text):
        assert "${{" not in script
    assert "pull_request_target" not in text


def test_a_release_needs_no_secret_and_no_cache() -> None:
    text = (REPOSITORY / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    assert "secrets." not in text
    assert "cache:" not in text
    assert "actions/cache" not in text


def test_the_identity_that_may_publish_runs_beside_no_code_of_the_build() -> None:
    jobs = read("release.yml")["jobs"]
    with_identity = [name for name, job in jobs.items() if "id-token" in job["permissions"]]
    assert with_identity == ["publish"]
    publish = jobs["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"] == "pypi"
    assert publish["needs"] == "build"
    assert [step["uses"].partition("@")[0] for step in publish["steps"]] == [
        "actions/download-artifact",
        "pypa/gh-action-pypi-publish",
    ]
    assert jobs["build"]["permissions"] == {"contents": "read"}


def test_what_is_released_is_listed_and_packages_are_audited() -> None:
    scripts = [step.get("run", "") for step in read("audit.yml")["jobs"]["audit"]["steps"]]
    assert "make audit" in scripts
    assert any("make sbom.json" in script for script in scripts)
    assert any("make sbom.json" in step.get("run", "") for step in read("release.yml")["jobs"]["build"]["steps"])
    targets = re.findall(r"^([\w.]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"audit", "sbom.json"} <= set(targets)
