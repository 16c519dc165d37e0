"""The tests of a solver: its test nets with the parameters that it has just now."""

from __future__ import annotations

from typing import Any

from caffe_compat import log
from caffe_compat.net import BlobNet
from caffe_compat.solver.actions import Action
from caffe_compat.solver.finite import check_hope
from caffe_compat.solver.restoring import Resumable
from caffe_compat.solver.scores import Scores, output_lines, precision_asked
from caffe_compat.solver.test_shares import TestShare

__all__ = ["Tested"]


class Tested(Resumable):
    """A solver that tests."""

    def test_all(self) -> list[dict[str, Any]]:
        """Test every test net and log its scores; the scores by output name.

        Several processes each run a part of the batches, all with the statistics (of BatchNorm) of rank 0.
        """
        self.share_statistics()
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
        scores = self._score(index, engine, self.test_shares()[index])
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
            with self.group.together():
                check_hope(engine, self.iter)
        return scores.named()

    def _score(self, index: int, engine: BlobNet, share: TestShare) -> Scores:
        """Test with this process's batches, and put together what all have found."""
        scores = Scores(engine, precision_asked(self.param))
        with self._random.use():
            for place in range(share.rounds):
                if not self._goes_on():
                    scores.complete = False
                    return scores
                if place < share.own:
                    number = share.turns.batch(place)
                    self._turn_to(number, "test", index, self.iter)
                    scores.add(engine.forward(), number)
        scores.unite(self.group, share.divided)
        return scores

    def _asked(self) -> Action:
        """What was asked of any of the processes: of several things the most that was asked."""
        actions = (Action.NONE, Action.SNAPSHOT, Action.STOP)
        return actions[self.group.highest(actions.index(self.poll()))]

    def _goes_on(self) -> bool:
        action = self._asked()
        if action is Action.SNAPSHOT:
            self.snapshot()
        if action is Action.STOP:
            self.stopped_early = True
        return action is not Action.STOP
