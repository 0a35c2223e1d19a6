"""Whatever a file or an override holds, the answer is a config or a ConfigError that names its place."""

import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nanocv_cli.config.check import check_file
from nanocv_cli.config.loader import Resolved, load_resolved, resolve
from nanocv_cli.config.located import flatten
from nanocv_cli.config.schema import DataConfig, TrainConfig
from nanocv_cli.errors import ConfigError

KEYS = st.sampled_from([*TrainConfig.model_fields, *DataConfig.model_fields, "flip", "mix"]) | st.text(max_size=6)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**300, 10**400)
    | st.floats()
    | st.text()
    | st.sampled_from(["adamw", "sgd", "auto", "cosine"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=6
)
PLACE = re.compile(r"^\S+\.yaml:\d+: .* is (not a known key$|missing; expected .+|.+; expected .+)", re.DOTALL)


@pytest.mark.parametrize("group", ["data", "train"])
@given(values=st.dictionaries(KEYS, VALUES, max_size=6))
@settings(max_examples=150, deadline=None)
def test_any_mapping_is_a_config_or_named_wrong(
    tmp_path_factory: pytest.TempPathFactory, group: str, values: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / group / "a.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(values), encoding="utf-8", errors="replace")
    for error in check_file(path).errors:
        assert PLACE.match(error.message) or re.match(
            r"^\S+\.yaml:\d+: (tags|expected lines|unprintable)", error.message
        )


@given(content=st.binary(max_size=200) | st.text("{}[]:,-&*!|>'\"#%@ab1\n \t.", max_size=60).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_config_or_named_wrong(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "train" / "b.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    errors = check_file(path).errors
    assert errors
    assert all(re.match(r"^\S+\.yaml:\d+: .", error.message) for error in errors)


LEAVES = list(flatten(resolve().config.model_dump(mode="json")))


@given(key=st.sampled_from(LEAVES) | st.text("abcdeint.=", max_size=12), text=st.text(max_size=20))
@settings(max_examples=100, deadline=None)
def test_any_override_is_taken_or_named_wrong(tmp_path_factory: pytest.TempPathFactory, key: str, text: str) -> None:
    try:
        config = resolve(overrides=[f"{key}={text}"]).config
    except ConfigError as error:
        assert error.message.startswith("--set ")
    else:
        folder = tmp_path_factory.mktemp("run")
        (folder / "config.yaml").write_text(Resolved(config, {}).to_yaml())
        assert load_resolved(folder / "config.yaml") == config
