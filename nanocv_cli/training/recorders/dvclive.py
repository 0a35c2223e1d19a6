"""DVCLive's files, which `dvc` reads as metrics and plots."""

import logging

from dvclive import Live

from nanocv_cli.training.recorders.tracker import LOGGED, Results, Row, Tracker


class DvcLiveFiles(Tracker):
    """`metrics.json` and `plots/` in the run's folder `dvclive`, rebuilt whenever the story is told again."""

    def begin(self) -> str:
        logging.getLogger("dvclive").setLevel(logging.ERROR)
        # No experiment, no report, no dvc.yaml: only the metric files, and nothing leaves the machine.
        self._live = Live(
            str(self.subject.folder / "dvclive"), save_dvc_exp=False, report=None, dvcyaml=None, monitor_system=False
        )
        return ""

    def add_epoch(self, row: Row) -> None:
        for name in LOGGED:
            if row[name] is not None:
                self._live.log_metric(name, row[name])
        self._live.next_step()

    def add_results(self, results: Results) -> None:
        for name, value in results.metrics.items():
            if isinstance(value, int | float):
                self._live.log_metric(f"final/{name}", value, plot=False)
        self._live.make_summary()
