"""The tests of a solver: its test nets with the parameters that it has just now."""

from __future__ import annotations

from typing import Any

from caffe_compat import log
from caffe_compat.net import BlobNet
from caffe_compat.solver.actions import Action
from caffe_compat.solver.finite import check_hope
from caffe_compat.solver.restoring import Resumable
from caffe_compat.solver.scores import output_lines, precision_asked, score

__all__ = ["Tested"]


class Tested(Resumable):
    """A solver that tests."""

    def test_all(self) -> list[dict[str, Any]]:
        """Test every test net and log its scores; the scores by output name."""
        results = []
        for index, engine in enumerate(self.test_engines):
            scores = self._test(index, engine)
            if scores is None:
                break
            results.append(scores)
        return results

    def _test(self, index: int, engine: BlobNet) -> dict[str, Any] | None:
        self._settle()
        log.info(f"Iteration {self.iter}, Testing net (#{index})", "solver.cpp:330")
        engine.net.share_with(self.net)
        self._random.turn_to(("test", index, self.iter))
        with self._random.use():
            scores = score(engine, self.param.test_iter[index], self._goes_on, precision=precision_asked(self.param))
        if not scores.complete:
            log.info("Test interrupted.", "solver.cpp:379")
            return None
        if self.param.test_compute_loss:
            log.info(f"Test loss: {log.number(scores.loss())}", "solver.cpp:384")
        if self.param.show_per_class_result:
            for line in scores.class_lines():
                log.info(line, "solver.cpp:540")
        for number, line in enumerate(output_lines(engine, scores.means())):
            log.info(f"    Test net output #{number}: {line}", "solver.cpp:397")
        self.on_test(index, scores)
        if self.stop_at_nan:
            check_hope(engine, self.iter)
        return scores.named()

    def _goes_on(self) -> bool:
        action = self.poll()
        if action is Action.SNAPSHOT:
            self.snapshot()
        if action is Action.STOP:
            self.stopped_early = True
        return action is not Action.STOP
