"""No fault costs a run an epoch that it had saved, and whatever happens to it, it ends with the very same weights.

`make soak-training` draws thousands of faults (`NANOCV_FAULTS`), of another seed where one is given
(`NANOCV_FAULTS_SEED`).
"""

import json
import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nanocv_cli.interrupts import EXIT_CODE
from tests.conftest import write_tiny_set
from tests.training.faults import Life
from tests.training.train_process import forked
from tests.training.weights import same_weights

FAULTS = int(os.environ.get("NANOCV_FAULTS", "100"))
SEED = os.environ.get("NANOCV_FAULTS_SEED", "17")
SETS = (
    "model.input_size=32", "model.args.widths=[4,8,8,8,8]", "train.epochs=5", "train.batch_size=8",
    "train.precision=fp32", "train.ema_decay=0.9",
)  # fmt: skip
STREAMS_EACH = 4


@pytest.mark.slow(30)
@pytest.mark.timeout(0 if FAULTS > 1000 else 1200)
def test_no_fault_costs_an_epoch_or_changes_a_bit(tmp_path: Path) -> None:
    data = write_tiny_set(tmp_path / "colours", {"train": 12, "val": 4})
    whole = Life(tmp_path, data, tmp_path / "whole", SETS, False, "")
    live(whole, harmless=True)
    happened: Counter[str] = Counter()
    number = 0
    while happened.total() < FAULTS:
        streams = number % STREAMS_EACH == STREAMS_EACH - 1
        sets = (*SETS, "data.cache_gb=0") if streams else SETS
        life = Life(tmp_path, data, tmp_path / f"run-{number}", sets, streams, f"{SEED} {number}")
        happened += live(life)
        for name in ("best", "last"):
            checkpoint = f"checkpoints/{name}.safetensors"
            assert same_weights(whole.run / checkpoint, life.run / checkpoint), f"run {number}: {name} differs"
        assert results(whole.run) == results(life.run), f"run {number}"
        shutil.rmtree(life.run)
        number += 1
    told = ", ".join(f"{count} {kind}" for kind, count in happened.most_common())
    sys.stdout.write(f"\n{happened.total()} faults in {number} runs of seed {SEED}: {told}\n")


def live(life: Life, harmless: bool = False) -> Counter[str]:
    """A run to its end, in as many processes as it takes; how often each kind of fault has happened to it."""
    report = life.root / "faults.jsonl"
    report.unlink(missing_ok=True)
    while True:
        process = forked(life.go_on, harmless)
        process.start()
        process.join()
        lines: list[dict[str, Any]] = [json.loads(line) for line in report.read_text().splitlines()]
        if process.exitcode == 0:
            break
        errors = (life.root / "stderr.txt").read_text()
        assert process.exitcode in (-signal.SIGKILL, -signal.SIGTERM, EXIT_CODE), f"{life}: {lines[-1:]}\n{errors}"
        life.attempt = lines[-1]["attempt"] + 1
    ended = {line["attempt"]: line for line in lines if "ended" in line}
    happened: Counter[str] = Counter()
    for line in lines:
        if "began" in line:
            # What was killed tells nothing after it began.
            end = ended.get(line["attempt"], {"happened": True})
            happened[line["began"].split(" at ")[0]] += end["happened"]
            happened["torn"] += line["torn"]
    return +happened


def results(run: Path) -> tuple[Any, ...]:
    """What a run has reached, but for times."""
    history, summary = (json.loads((run / name).read_text()) for name in ("history.json", "summary.json"))
    times = ("time", "seconds", "images_per_second")
    rows = [{key: value for key, value in row.items() if key not in times} for row in history["epochs"]]
    return rows, summary["metrics"], summary["epochs"]
