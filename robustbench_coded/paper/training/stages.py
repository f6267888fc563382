"""A network as training recipes see it: a chain of blocks on pixels, run in the chosen precision; or one that
is trained behind its defence, of which recipes are told the defence's answers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from attacks.accelerator import layout
from robustbench_coded.defences import options, plugin
from robustbench_coded.errors import InputError
from robustbench_coded.models.pixel_model import blocks_of


class TrainingStages(nn.Module):
    """Runs a network as a whole or from block to block; every result is float32.

    Args:
        network: one from outside is a single block.
        mean, deviation: of each channel; block 0 is given (pixel - mean) / deviation.
        autocast: bfloat16 to compute convolutions and products in that; float32 for none.
    """

    mean: Tensor
    deviation: Tensor
    generator: torch.Generator  # on the CPU, of what a defence draws; the run sets one for every epoch

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        deviation: Sequence[float],
        autocast: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.network = network
        self.autocast = autocast
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(-1, 1, 1))

    @property
    def count(self) -> int:
        """Number of blocks."""
        return len(blocks_of(self.network))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[k, classes]`` of pixels ``x`` ``[k, C, H, W]`` in [0, 1]."""
        return self.run(x, 0, self.count)

    def run(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Blocks ``start`` to ``stop`` (not included) applied to ``x``, what block ``start`` is given.

        With ``start`` equal to ``stop`` this is ``x`` itself, so what lies before block 0 is pixels.
        """
        if start == stop:
            return x
        if start == 0:
            x = (x - self.mean) / self.deviation
        if x.ndim == 4:  # the layout that convolutions are fastest in, which encoding does not keep
            x = x.contiguous(memory_format=layout(x.device))
        whole = (start, stop) == (0, self.count)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.autocast == torch.bfloat16):
            # The network itself where possible: only as a whole is it compiled.
            for step in [self.network] if whole else blocks_of(self.network)[start:stop]:
                x = step(x)
        return x.float()


def check_blocks(stages: TrainingStages, blocks: Sequence[int], option: str) -> None:
    """Refuses block numbers that the network does not have.

    Raises:
        InputError: a number below 0 or beyond the last block.
    """
    wrong = [block for block in blocks if not 0 <= block < stages.count]
    if wrong:
        raise InputError(
            f"{option} {wrong[0]}: this architecture has {stages.count} blocks, 0 to {stages.count - 1}"
        )


class Defended(TrainingStages):
    """One block, which is the defence around the network, with a new draw for every forward pass.

    The parameters are the network's own: they are trained through the defence.

    Args:
        plain: the network without its defence.
        defence: as for ``--defence``.
        k: size of a batch.
    Raises:
        InputError: a defence that cannot be trained through.
    """

    def __init__(self, plain: TrainingStages, defence: str, k: int):
        nn.Module.__init__(self)  # network, normalisation and precision are those of ``plain``, on its device
        self.plain = plain
        self.name = defence
        self.generator = torch.Generator().manual_seed(0)
        self.defence = plugin.build_defence(checked(defence), plain, k)

    @property
    def count(self) -> int:
        """One: recipes do not look inside a defence."""
        return 1

    def run(self, x: Tensor, start: int, stop: int) -> Tensor:
        """``x`` itself before the block, and the defence's logits ``[k, classes]`` behind it."""
        if start == stop:
            return x
        draw = self.defence.sample(self.generator, len(x)) if self.defence.randomised else None
        return self.defence.logits(x, draw).float()

    def require_gradients(self, classes: int, image_shape: tuple[int, int, int]) -> None:
        """Refuses what would train nothing in silence: a defence around a copy of the network.

        Args:
            classes: of the data.
            image_shape: (C, H, W) of one image.
        Raises:
            InputError: no gradient reaches the weights, or the answers have other classes.
        """
        weights = [weight for weight in self.plain.network.parameters() if weight.requires_grad]
        was_training = self.training
        self.eval()
        with torch.enable_grad():
            images = torch.full((4, *image_shape), 0.5, device=self.plain.mean.device)
            images = images + torch.linspace(-0.4, 0.4, 4, device=images.device).view(-1, 1, 1, 1)
            logits = self.run(images, 0, 1)
            if logits.shape != (4, classes):
                raise InputError(
                    f"defence {self.name}: it answers {list(logits.shape)} for 4 images, {classes} classes; "
                    "a defence with further classes cannot be trained through"
                )
            if not logits.isfinite().all():
                raise InputError(f"defence {self.name}: it answers NaN or infinity for plain images")
            reached = (
                torch.autograd.grad(logits.square().sum(), weights, allow_unused=True)
                if logits.requires_grad
                else [None]
            )
        self.train(was_training)
        if not any(gradient is not None and gradient.abs().sum() > 0 for gradient in reached):
            raise InputError(
                f"defence {self.name}: no gradient reaches the network's weights through it; a defence that "
                "is trained has to call the network that it is given, not a copy and not under no_grad"
            )


def checked(defence: str) -> options.DefenceSpec:
    """The defence that a network can be trained behind.

    Raises:
        InputError: another one: standard inference, coded inference, or one that needs further images.
    """
    spec = options.parse_defence(defence)
    if spec.kind in ("standard", "coded", "rci"):
        raise InputError(
            f"defence {defence}: give a defence to train behind, for example published:parametric-noise; "
            "for coded inference there is the recipe coded"
        )
    if options.mixes_images(spec):
        raise InputError(
            f"defence {defence}: it needs images besides the batch, so that nothing can be trained behind it"
        )
    return spec
