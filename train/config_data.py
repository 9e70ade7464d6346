"""Options of where training rows come from and the order in which they are learnt."""

from __future__ import annotations

from pydantic import Field

from espalier.train.config_parts import Strict


class DataSource(Strict):
    """A dataset file and its part in an epoch."""

    path: str = Field(
        description="Dataset file, of this run (curate/train.jsonl) or one of your own."
    )
    weight: float | None = Field(
        None,
        gt=0,
        description="Share of an epoch in relation to the other sources' weights. An epoch has as "
        "many rows as all sources together; a source goes through all its rows before it repeats "
        "one. Without weights each row comes once an epoch.",
    )
    limit: int | None = Field(None, ge=1, description="Rows to use of it; else those of `limit`.")
    format: str | None = Field(None, description="Its format; else that of `format`.")
    where: dict[str, str | list[str]] = Field(
        default_factory=dict,
        description="Only the rows whose meta say so: a field and its value, or one of several "
        "values, as {group: reasoning} or {source: [t0, dolly]}; a limit is taken of these.",
    )


class Curriculum(Strict):
    """Rows from easy to hard (Bengio et al. 2009)."""

    by: str = Field(
        "length",
        pattern=r"^(length|meta\.\S.*)$",
        description="What is harder the larger it is: length (trained tokens of the row), or "
        "meta.<field>, a number that curation wrote (difficulty, ifd, …).",
    )
    descending: bool = Field(False, description="Larger is easier instead.")
    epochs: int | None = Field(
        None, ge=1, description="Epochs in this order, later ones shuffled; by default all."
    )
