"""Standard inference as it is scored, which does not answer the same inputs twice in a row."""

import torch
from torch import Tensor

from robustbench_coded.defences.inferences import Standard
from robustbench_coded.models.prepare import tf32


class AnsweredOnce(Standard):
    """An attack that stops early asks the scored model about its result; scoring then asks the same again."""

    _last: tuple[Tensor, Tensor] | None = None

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]; in full float32 whatever the caller allows."""
        if torch.is_grad_enabled():
            return super().logits(x, draw)
        if self._last is None or not torch.equal(self._last[0], x):
            with tf32(False):
                # A copy, for x may be moved in place before the next question.
                self._last = (x.clone(), super().logits(x, draw))
        # A copy again: other packages' attacks write into the logits that they are given.
        return self._last[1].clone()

    def logits_grouped(self, x: Tensor, draws: object) -> Tensor:
        """[G, K, C, H, W] -> [G, K, classes]."""
        return self.logits(x.flatten(0, 1), None).unflatten(0, x.shape[:2])
