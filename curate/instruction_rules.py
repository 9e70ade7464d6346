"""The rules on one new instruction, as Self-Instruct and Alpaca have them, for each language."""

from __future__ import annotations

import re

from espalier.curate.config_instruct import AlpacaConfig, SelfInstructConfig
from espalier.curate.options import Language
from espalier.text import length

# A quotation or a title is an ordinary way to begin a Chinese sentence.
_ZH_OPENINGS = "“‘「『《〈"


class InstructionRules:
    """Length, blacklist, openings; the first rule that objects decides."""

    def __init__(self, config: SelfInstructConfig | AlpacaConfig, spoken: Language) -> None:
        self._config = config
        self._openings = tuple(text.lower() for text in config.blacklist_openings.get(spoken, []))
        self._ascii_only = config.ascii_only and spoken == "en"
        self._free_openings = _ZH_OPENINGS if spoken == "zh" else ""
        words = config.blacklist.get(spoken, [])
        # Chinese has no word boundaries: there the words are looked for anywhere.
        edge = "" if spoken == "zh" else r"\b"
        joined = "|".join(re.escape(word) for word in words)
        self._blacklist = re.compile(f"{edge}(?:{joined}){edge}", re.IGNORECASE) if words else None

    def verdict(self, instruction: str) -> tuple[str, str] | None:
        """(rule, evidence) of the first rule that objects, else None."""
        words = length(instruction)
        if words <= self._config.min_words:
            return "short_instruction", f"{words} words"
        if words > self._config.max_words:
            return "long_instruction", f"{words} words"
        found = self._blacklist.search(instruction) if self._blacklist else None
        if found:
            return "blacklisted", found.group()
        for opening in self._openings:
            if instruction.lower().startswith(opening):
                return "blacklisted_opening", opening
        return self._odd_opening(instruction)

    def _odd_opening(self, instruction: str) -> tuple[str, str] | None:
        first = instruction[0]
        # Letters and digits of any script are no punctuation; signs and emoji count as it.
        odd = not first.isalnum() and first not in self._free_openings
        if odd and not self._config.punctuation_opening:
            return "odd_opening", instruction[:10]
        if self._ascii_only and not first.isascii():
            return "not_ascii", instruction[:10]
        return None
