"""The radius where none was given: the field's usual one, for the data and norms that have one."""

from robustbench_coded.errors import InputError

DIGITS_LINF = 0.3  # of scikit-learn's and of MNIST
LINF = 8 / 255
CIFAR_L2 = 0.5
CIFAR_SHAPE = (3, 32, 32)


def default_eps(norm: str, data: str, image_shape: tuple[int, ...]) -> float:
    """The default radius, in pixel units.

    Args:
        norm: of the perturbation budget.
        data: the data set as text.
        image_shape: of one image, [C, H, W].

    Raises:
        InputError: the field has no usual radius for this norm on such images.
    """
    if norm == "linf":
        return DIGITS_LINF if data in ("digits", "mnist") else LINF
    if norm == "l2" and tuple(image_shape) == CIFAR_SHAPE:
        return CIFAR_L2
    size = "x".join(map(str, image_shape))
    raise InputError(
        f"--norm {norm} has no usual radius on {data} (images {size}); give one, for example --eps 0.5"
    )
