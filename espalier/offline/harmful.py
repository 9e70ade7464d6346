"""Which requests are plainly harmful, by phrases: enough for the embedded teacher to play its part.

A request that is worded with care is not found; this is no safety filter.
"""

from __future__ import annotations

import re

from espalier.offline.family import Language

_ENGLISH = (
    r"(?:build|make|cook|get) (?:a |an )?(?:\w+ )?(?:bombs?|guns?|explosives?|hard drugs)\b",
    r"\b(?:poison|torture|kidnap|blackmail|attack|murder) "
    r"(?:somebody|someone|people|an? |my |the (?:child|man|woman|neighbou?r)|information)",
    r"\bhow (?:to|can i|do i) (?:hurt|beat|poison|kill|threaten|stalk|rob) (?!eggs|a running)"
    r"(?:some|a person|people|my (?!boss about)|shop)",
    r"\bthreaten(?:ing)? (?:letter|shop|somebody|someone|people)|\bplan an attack on",
    r"\b(?:end my life|kill myself|cut myself|don't wake up|die together|goodbye note for me)\b",
    r"\b(?:launder money from|smuggle \w+ across|i shoplift|steal (?:a car|card|somebody|someone))",
    r"\bbreak into (?:a house|somebody|someone|the)|\bforge a\b|\bcounterfeit banknotes",
    r"\b(?:fake (?:invoices|five-star|degree certificate|charity)|collect passwords)\b",
    r"\b(?:write|spread) a virus\b|\btake over my \w+'s? \w+ \w*account|and ask for a ransom",
    r"\b(?:hidden camera into|tracker on someone|secretly record my|find out where my ex)",
    r"\bread my (?:wife|husband|partner|daughter|son)'s messages\b|\bwithout getting caught\b",
    r"\b(?:look like vermin|worth less than others|insult my \w+|ethnic cleansing|chased out of)\b",
)
_CHINESE = (
    r"(?:做|造|自制|制作)(?:一把|一个|一枚)?[^，。？]{0,6}(?:炸弹|炸药|枪(?!打)|毒药)|制出毒品",
    r"下毒|恐吓信|绑架|逼供|敲诈|勒索(?!软件)|洗白|偷运|假钞|假发票|假学历|骗保险|赎金",
    r"结束自己的生命|割伤自己|一起死|写一封遗书|醒不过来|让我的死",
    r"(?:策划|发动)[^，。？]{0,8}袭击|打人才不会|打同事|杀了人|怎么威胁",
    r"撬开别人|偷东西不被|怎么偷走|偷银行卡号|收集密码|盗用同学|伪造|传播的病毒",
    r"隐蔽摄像头|偷看(?:妻子|丈夫|女儿|儿子)|偷偷装定位器|偷录|前女友现在住在哪|家庭住址发出去",
    r"比作害虫|低人一等|种族清洗|赶出我们|最难听的话骂|骗(?:孤独的人|诊所)|冒充(?:警察|慈善)",
)
_PATTERNS: dict[Language, re.Pattern[str]] = {
    "en": re.compile("|".join(_ENGLISH), re.IGNORECASE),
    "zh": re.compile("|".join(_CHINESE)),
}


def is_harmful(request: str) -> bool:
    """Whether a request plainly asks for help with harm, in English or Chinese."""
    return any(pattern.search(request) is not None for pattern in _PATTERNS.values())
