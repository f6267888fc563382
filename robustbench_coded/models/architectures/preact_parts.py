"""What the weights of pre-activation networks do not say."""

from dataclasses import dataclass

from robustbench_coded.models.architectures.activations import activation_named


@dataclass(frozen=True)
class PreactParts:
    """Parts without weights of a network whose blocks begin with batch-norm and activation.

    Attributes:
        activation: one of ``activations.ACTIVATIONS``.
        shortcut: what a shortcut's convolution sees, the ``active`` tensor or the ``raw`` input of the block.
        identity: what an identity passes on, likewise.
    """

    activation: str = "relu"
    shortcut: str = "active"
    identity: str = "raw"

    def __post_init__(self) -> None:
        activation_named(self.activation)
        if not {self.shortcut, self.identity} <= {"active", "raw"}:
            raise ValueError(
                f"expected shortcut and identity active or raw, got {self.shortcut} and {self.identity}"
            )
