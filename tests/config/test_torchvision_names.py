import importlib.util
import json
import subprocess
import sys

import pytest

from nanocv_cli.config.torchvision_names import TORCHVISION_CLASSIFIERS


def test_names_are_sorted_and_stand_once() -> None:
    assert list(TORCHVISION_CLASSIFIERS) == sorted(set(TORCHVISION_CLASSIFIERS))


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")
def test_names_are_those_of_the_installed_torchvision() -> None:
    code = "import json, torchvision.models as m; print(json.dumps(m.list_models(module=m)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) == set(TORCHVISION_CLASSIFIERS)
