"""Prices of tokens and limits of spending, as written in a recipe."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

MILLION = 1_000_000
_SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£", "CNY": "¥"}


class Prices(BaseModel):
    """What a model's tokens cost."""

    model_config = ConfigDict(extra="forbid")

    prompt: float = Field(ge=0, description="Money for a million prompt tokens.")
    completion: float = Field(ge=0, description="Money for a million completion tokens.")
    currency: str = Field("USD", pattern="^[A-Z]{3}$", description="Three letters (ISO 4217).")
    batch_discount: float = Field(
        0.5, ge=0, le=1, description="Part of the price that the batch endpoint takes off."
    )

    def money(self, prompt_tokens: int, completion_tokens: int, *, batch: bool = False) -> float:
        """The price of so many tokens."""
        full = (self.prompt * prompt_tokens + self.completion * completion_tokens) / MILLION
        return full * (1 - self.batch_discount) if batch else full


class Budget(BaseModel):
    """Limits of a whole run, over all its stages and processes; any of them may be left open."""

    model_config = ConfigDict(extra="forbid")

    money: float | None = Field(None, ge=0, description="Most money, in the prices' currency.")
    tokens: int | None = Field(None, ge=0, description="Most tokens, prompts and answers together.")
    requests: int | None = Field(None, ge=0, description="Most answered requests.")
    local: bool = Field(
        False, description="Count tokens and requests of the engines on this machine too."
    )


def amount(money: float, currency: str) -> str:
    """`$0.42`, `0.42 SEK`; four digits after the point below a hundredth."""
    digits = 2 if money >= 0.01 or money == 0 else 4
    symbol = _SYMBOLS.get(currency)
    return f"{symbol}{money:,.{digits}f}" if symbol else f"{money:,.{digits}f} {currency}"
