"""Fingerprints of one checkpoint's candidates: each image is sent through each candidate once."""

from collections.abc import Container, Iterator
from itertools import islice

import torch

from robustbench_coded.errors import InputError
from robustbench_coded.models.candidates import Assembly, Candidate
from robustbench_coded.models.fingerprint import Fingerprint, Moments, fingerprint_of
from robustbench_coded.models.variants import changed


class Remembered:
    """What the batch-norms of candidates remember and see; what was seen is kept.

    Args:
        assembly: of the checkpoint, with images.
    """

    def __init__(self, assembly: Assembly) -> None:
        self.assembly = assembly
        self._fingerprints: dict[tuple, Fingerprint] = {}
        self._moments: dict[tuple, Moments] = {}

    def fingerprint(
        self, candidate: Candidate, kind: str, images: int, layers: int | None = None
    ) -> Fingerprint:
        """On the first ``images`` of that kind, up to so many batch-norms."""
        images = min(images, len(self.assembly.balanced))
        key = (candidate, kind, layers)
        if (*key, images) not in self._fingerprints:
            found = self._first_of_all(candidate, kind, images, layers) if layers is not None else None
            if found is None:
                moments = self._moments.setdefault(key, {})
                found = self.assembly.fingerprint(candidate, kind, images, layers, moments)
            self._fingerprints[*key, images] = found
        return self._fingerprints[*key, images]

    def _first_of_all(self, candidate: Candidate, kind: str, images: int, layers: int) -> Fingerprint | None:
        """The same from what all batch-norms saw of these images, and perhaps more; None where none did."""
        moments: Moments = {}
        for name, pieces in islice(self._moments.get((candidate, kind, None), {}).items(), layers):
            seen = torch.cat(pieces, 1)
            if seen.shape[1] < images:
                return None
            moments[name] = [seen[:, :images]]
        return fingerprint_of(moments, self.assembly.norms(candidate.arch)) if moments else None

    def forms(self, arch: str, part: str, among: Container[str | None] | None = None) -> Iterator[str]:
        """The variants that differ from ``arch`` in one part, as far as there are such networks.

        Args:
            among: the forms that come into question; None for all.
        """
        for form in self.assembly.variants[part]:
            if among is not None and str(form) not in among:
                continue
            other = changed(arch, part, form)
            try:
                self.assembly.network(other, rounded=True)
            except InputError:
                continue
            yield other
