"""Options of deduplication."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from espalier.curate.options import Options


class DedupConfig(Options):
    """Exact duplicates after normalising case, width, spaces and punctuation."""

    key: Literal["prompt", "prompt+answer", "none"] = Field(
        "prompt", description="What has to be equal; the first row of equals is kept."
    )
