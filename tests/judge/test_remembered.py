import numpy as np

from robustbench_coded.judge.correlation import remembered


def test_the_same_content_is_computed_once_and_other_content_anew():
    asked = []

    @remembered
    def total(values, weight, *, shift=0):
        asked.append(values)
        return float(values.sum() * weight + shift)

    values = np.arange(6).reshape(2, 3)
    assert total(values, 2) == total(values.copy(), 2) == total(values.T.copy().T, 2) == 30
    assert len(asked) == 1
    assert total(values, 2, shift=1) == 31
    assert total(values, 3) == 45
    values[0, 0] = 1  # written to afterwards: it is the content that counts
    assert total(values, 2) == 32
    assert total(values.reshape(3, 2), 2) == total(values.astype(np.int32), 2) == 32
    assert len(asked) == 6
