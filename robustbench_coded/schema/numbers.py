"""Numbers as run.json may hold them."""

from typing import Annotated

from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Number = Annotated[float, Meta(ge=-1e9, le=1e9)]  # leaves out NaN and infinities, too
