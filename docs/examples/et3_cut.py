"""ET3 with its inner steps cut from the gradient, as its authors' code has it when the attack adapts."""

from robustbench_coded.extras.published.purification import Et3


class Cut(Et3):
    """Answers like ``published:et3``. Its gradient is the network's own at the image that was moved."""

    name = "et3-cut"

    def logits(self, x, draw):
        return self.model(x + (self.descended(x.detach()) - x).detach())


build = Cut
