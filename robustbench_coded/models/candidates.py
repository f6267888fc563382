"""Ways to assemble one file's weights: variants of its architecture, each behind each known normalisation."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robustbench_coded.errors import InputError
from robustbench_coded.models import registry
from robustbench_coded.models.architectures.per_image import PerImage
from robustbench_coded.models.fingerprint import Fingerprint, fingerprint
from robustbench_coded.models.input_kinds import images_of_kind
from robustbench_coded.models.loading import Checkpoint
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.variants import INPUT, split_variant


@dataclass(frozen=True)
class Candidate:
    """A way to assemble the weights.

    Attributes:
        arch: a variant of the architecture, as ``--arch`` takes it.
        normalisation: of pixels in [0, 1].
    """

    arch: str
    normalisation: Normalisation

    def __str__(self) -> str:
        name = self.normalisation.name
        return f"{self.arch} on {str(self.normalisation) if name == 'custom' else name}"


@dataclass
class Assembly:
    """Builds candidates of one checkpoint, and looks at their batch-norms.

    Attributes:
        checkpoint: as loaded; its weights are shared by all candidates.
        images: [n, C, H, W] in [0, 1].
        device: where candidates answer.
    """

    checkpoint: Checkpoint
    images: Tensor
    device: torch.device
    _networks: dict[str, nn.Module] = field(default_factory=dict)
    _inputs: dict[str, Tensor] = field(default_factory=dict)

    @property
    def variants(self) -> Mapping[str, tuple[str | int, ...]]:
        """The parts of the architecture that leave no trace in its weights, with their other forms."""
        try:
            return registry.find(self.checkpoint.arch)[0].variants
        except InputError:  # of the user's own code
            return {}

    def model(self, candidate: Candidate) -> PixelModel:
        """The candidate, from pixels to logits."""
        checkpoint, normalisation = self.checkpoint, candidate.normalisation
        network = self.network(candidate.arch)
        mean, std = normalisation.mean, normalisation.std
        model = PixelModel(network, mean, std, classes=checkpoint.classes, arch=candidate.arch)
        return model.to(self.device)

    def network(self, arch: str) -> nn.Module:
        """The network of a variant with the checkpoint's weights.

        Raises:
            InputError: there is no such variant.
        """
        checkpoint = self.checkpoint
        if arch == checkpoint.arch:
            return checkpoint.network
        if arch not in self._networks:
            built = registry.construct(arch, checkpoint.classes, checkpoint.channels, checkpoint.image_size)
            trained = checkpoint.network
            weights = (trained.network if isinstance(trained, PerImage) else trained).state_dict()
            built.load_state_dict(weights, strict=False, assign=True)
            network = PerImage(built) if INPUT in split_variant(arch)[1] else built
            self._networks[arch] = network.eval().requires_grad_(False)
        return self._networks[arch]

    def inputs(self, kind: str, count: int) -> Tensor:
        """The first images as in that kind of training, on the device."""
        if kind not in self._inputs or len(self._inputs[kind]) < min(count, len(self.images)):
            self._inputs[kind] = images_of_kind(kind, self.images[:count]).to(self.device)
        return self._inputs[kind][:count]

    def fingerprint(
        self, candidate: Candidate, kind: str, count: int, layers: int | None = None
    ) -> Fingerprint | None:
        """The candidate's batch-norms on ``count`` images of that kind; None where it has none."""
        model = self.model(candidate)
        return fingerprint(model, model.network, self.inputs(kind, count), layers=layers)


@torch.no_grad()
def multiplications(model: PixelModel, image: Tensor) -> int:
    """Multiplications of convolutions and linear layers for one image [1, C, H, W]."""
    counted = [0]

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        # Each output is a product with one filter, or one row.
        counted[0] += output.numel() * weight[0].numel()

    handles = [
        module.register_forward_hook(count)
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    try:
        model(image)
    finally:
        for handle in handles:
            handle.remove()
    return counted[0]
