"""Does an answer refuse instead of answering? English and Chinese phrasings."""

from __future__ import annotations

import re

# A refusal opens with it; later in a long answer the same words are mostly something else.
_OPENING_CHARACTERS = 240
_SENTENCES = 3

# ---- English -----------------------------------------------------------------------------

_I = r"i(?: (?:really|simply|just|also|still|personally|honestly|definitely|therefore))? ?"
_AM = r"(?:am|['’]m)"
_CANNOT = (
    rf"{_I}(?:can(?:not| not|['’ ]?t)|could(?:n['’]t| not) (?=possibly|in good)|wo(?:n['’]t)|"
    rf"will not|should(?:n['’]t| not)|"
    rf"{_AM} (?:not able|unable|not allowed|not permitted|not going|not willing|unwilling|not here|"
    r"not prepared|not programmed|not designed)(?: to)?|"
    rf"{_AM} not comfortable(?: with)?|(?:do not|don['’]t) feel (?:comfortable|right)(?: (?:with|"
    rf"about))?|(?:['’]d|would) (?:rather|prefer) not(?: to)?|"
    r"(?:would not|wouldn['’]t|do not|don['’]t) (?:want|wish|intend) to|"
    r"(?:do not|don['’]t) think (?:that )?i (?:should|can|could|ought to)|"
    r"(?:must |have to )?(?:decline|refuse) to|must not)"
    rf"|there['’]?s? (?:is )?no way (?:that )?i(?: can| could| will|['’]ll|['’]m able to|"
    rf" am able to)"
)
# Words that may stand between "I can't" and the verb.
_FILLER = (
    r"(?: (?:to|with|be|able|really|simply|directly|actually|ever|possibly|just|also|even|"
    r"currently|in good conscience|knowingly|going|agree|take part in|personally|ethically|"
    r"legally|safely))*"
)
# The object tells a refusal from a person's own trouble ("I can't access my account").
_OWN = r"(?! (?:my|our|me|us|him|them|themselves|myself|anymore|any ?more)\b)"
_HELP = (
    r"help(?:ing)?\b(?! (?:but|it|(?:\w+ )?(?:feel|think|wonder|laugh|smil|notic|lov|want|be|fall|"
    r"worry|ador|cry|star(?=ing)|ask|say)\w*ing)\b)|(?:assist|aid)(?:ing)?\b"
)
_TELL = (
    r"(?:tell|show|teach|give)(?:ing)? (?:you|anyone|people|someone)\b"
    r"(?! (?:how (?!to\b|you\b)|up\b|that (?:i|from)\b|lies?\b|exactly|much\b|(?:any )?more\b|"
    r"a (?:whole )?lot|for (?:sure|certain)))|"
    r"teach(?:ing)? (?:that|this|such)|walk(?:ing)? you through|"
    r"(?<!can['’]t )(?<!cannot )explain it\b|(?:explain|describ|discuss)(?:e|ing)?\b(?! (?:it\b|"
    r"(?:how|why) (?!to\b)(?!you\b)(?!someone\b)))"
)
_MAKE = (
    r"(?:answer|comply|fulfil?l?|satisfy|generat|creat|produc|draft|invent|compos|translat|recit|"
    r"reproduc|writ|provid|offer|suggest|recommend|reveal|disclos|shar|encourag|promot|endors|"
    r"list|spread|argu|pretend|pose as|impersonat|celebrat|speculat|rank (?=people|ethnic|races|"
    r"religions|groups)|sign (?=documents|for|on behalf)|track down|participat|engag|respond|"
    r"advis|complet|perform|carry(?:ing)? out|access(?! it\b)|brows|process|handl)(?:e|ing)?\b"
    r"(?! (?:for my|for our|(?:the|any|his|her) (?:phone|door|call)|[^.!?,]{1,60} enough\b|up\b|"
    r"off\b|in to\b|the question of\b))|"
    r"mak(?:e|ing) (?:up\b(?! (?:my|for))|fun\b|jokes?\b|(?:a|an) (?:list|plan|joke|case)|such|"
    r"those)|giv(?:e|ing) (?:out|any|that|this|such|specific|medical|legal|financial|advice|"
    r"instructions|the)\b|"
    r"support (?:this|that|such|your?\b)|open (?:links?|files?|urls?|attachments|websites?)\b|"
    r"continue with (?:this|that|your)|"
    r"do(?:ing)? (?:that|this|so)\b(?! (?:any|again|alone|without|on my|by myself))|"
    r"insult\w* (?:any|some|people)|hurt\w* (?:any|some)|(?:a )?(?:part of|party to) \w+ing\b|"
    r"(?:with )?(?:that|this|your) (?:request|question|task)"
)
_DO = rf"(?:{_HELP}|{_TELL}|{_MAKE}){_OWN}"
_SORRY = (
    r"(?:(?:i['’]m |i am |we['’]re )?(?:very |so |really |truly |terribly )?(?:sorry|afraid)|"
    r"my apologies|i apologi[sz]e|unfortunately|regrettably|apologies)"
)
_LINK = r"(?:so|and|but|because|as|since|still|however|therefore|then|though)"
_OPENER = (
    rf"(?:(?:no|nope|oh|oh no|well|respectfully|hm+|ok(?:ay)?|{_LINK}|"
    rf"if you[^.!?\n:,]{{3,60}}|{_SORRY}\b[^.!?\n:]{{0,60}}?|please (?:understand|know|"
    rf"note)(?: that)?|"
    r"let me (?:stop you there|be clear)|my answer is no|that said|thanks?[^.!?\n:]{0,40}|as such)"
    r"\W{1,3})"
)
# Where in a sentence the clause that declines may begin.
_LEAD = rf"(?:{_OPENER}{{0,3}}|[^.!?\n:]{{3,110}}?[,;–—] ?{_LINK},? (?:{_SORRY},? )?)"
_THING = r"(?:something|a thing|anything|a request|a topic)"
_I_WILL = (
    r"(?:that )?i(?:['’]m| am| feel|['’]ll| will| can| could|['’]d| would| should| do)"
    rf"(?:{_FILLER} (?:{_DO})| (?:be )?(?:willing|able|allowed|comfortable|going|prepared|happy)|"
    rf" do\b(?! not)| support)"
)
_RULES = (
    r"(?:my|our|the|their|content|usage|safety) (?:\w+ )?(?:guideline|polic|principle|rule|terms|"
    r"programming)"
)
_PLEADED = r"(?:this|that|it|your|the)(?: request| question| prompt| task)?"

_ENGLISH = [
    rf"{_LEAD}(?:{_CANNOT}){_FILLER} (?:{_DO})",
    rf"(?:{_OPENER}{{0,2}})?{_I}(?:{_AM} not comfortable with (?:that|this)|"
    rf"['’]d (?:really )?rather not)\W*[.!]",
    rf"{_LEAD}(?:[^.!?\n:;]{{4,90}} )?(?:is|(?:that|this|it)(?=['’]s)['’]s)(?: not|"
    rf"n['’]t) {_THING} {_I_WILL}",
    rf"{_LEAD}(?:[^.!?\n:;]{{4,90}} )is {_THING} (?:that )?i (?:can(?:not|['’]?t)|won['’]t|"
    rf"will not|am not|['’]m not|refuse)",
    rf"{_LEAD}{_PLEADED} (?:is (?:against|outside|beyond)|goes against|violates|breaches|breaks) "
    rf"(?:{_RULES}|my\b|what i)",
    rf"{_LEAD}(?:we|i) (?:can(?:not|['’]t)|are unable to|am unable to) (?:process|fulfil?l?|"
    rf"complete|(?:help|assist|comply) with|answer) (?:this|that|your|such)\b",
    rf"{_LEAD}{_I}(?:do not|don['’]t) (?:provide|assist|generate|(?:help|engage) (?:with|in|"
    rf"people|anyone)|"
    r"write (?:[^.!?]{0,30}\b)?(?:that|which|fake|hate|content|malware|threats|insults|"
    r"propaganda|spam)\b|create (?:content|fake|hate)|share (?:personal|private|such|that))",
    rf"{_LEAD}{_I}(?:{_AM} (?:declining|refusing)|(?:must|have to|will have to|['’]ll have to|"
    rf"{_AM} going to have to|need to|should) (?:decline|refuse|pass on|say no))"
    r"(?= (?:this|that|to (?:\w+ )?(?:this|that|answer|help|write|assist|comment|provide)|"
    r"your request|the request|here)|\W*(?:$|[.!;:]))",
    rf"{_LEAD}{_I}{_AM} not (?:doing|writing|helping|answering) (?:that|this|with|you|any)",
    rf"(?:{_SORRY}\W{{1,3}}(?:but )?)?(?:no|nope)[.,;!]+ (?:that|this|it)(?:['’]s| is| would|"
    rf" could|"
    r" will)\b[^.!?]{0,20}\b(?:harm|hurt|illegal|a crime|dangerous|unsafe|unethical)",
    rf"{_LEAD}(?:[^.!?\n:;]{{4,90}} )?(?:is|are) off(?: the table|[ -]limits) for me\b",
    rf"{_LEAD}{_RULES}\w* (?:do not|don['’]t|does not|doesn['’]t) (?:allow|permit|let) me|"
    rf"{_LEAD}{_RULES}\w* (?:forbids?|prohibits?|prevents?|stops?) me",
    r"no[,.] (?:and )?please don['’]t\b",
    rf"{_SORRY}\W{{1,3}}(?:but )?(?:the answer is )?no(?:[.!]|$)",
    rf"(?:{_SORRY},? (?:but )?)?(?:i )?(?:can['’]?t|cannot|won['’]t)(?: do (?:that|this|it))?\W*$",
]

# Less certain ways of declining, which count when an offer of other help follows at once.
_WEAK = (
    rf"(?:no, )?(?:(?:{_CANNOT})(?! (?:be (?:sure|certain)|guarantee|promise|see|say|know|tell|"
    rf"find|speak|judge|wait|imagine|remember|think|help but))|please don['’]t\b"
    r"(?=;|[^.!?]*\b(?:dangerous|serious|harm|kill|die|hurt|injur|risk))|i['’]d rather (?!have|"
    r"be|go)|that is not safe)[^.!?\n]{3,140}[.;!] "
)
_OFFER = (
    r"(?:(?:if|for|when|instead)[^.!?\n]{3,90}, )?(?:but )?i(?: can| could|['’]d (?:be (?:glad|"
    r"happy) to|like to|gladly)|['’]m (?:happy|glad) to| am (?:happy|glad) to|['’]ll)(?: \w+)? "
    r"(?:help|write|explain|suggest|tell|offer|point|describe|work|talk|find|show)\b"
)
_ENGLISH.append(_WEAK + _OFFER)

# ---- Chinese -----------------------------------------------------------------------------

_ZH_SORRY = r"(?:非常|很|十分|真的)?(?:抱歉|对不起|遗憾|不好意思|對不起)"
_ZH_FIRM = r"(?:真的|绝对|绝|可|也|还是|实在|现在|目前|暂时|恐怕|是|一律|坚决|都|就|得)?"
_ZH_CANNOT = (
    r"(?:无法|不能够?|没办法|没有办法|没法|不可以|不便|不方便|难以|不会|不想|不愿意?|不打算|不应该|"
    r"不该|拒绝|無法|沒辦法|不能夠|不會|不願意?|不被允许)"
)
# In the looser rules: without what one merely does not want ("抱歉，我不想…").
_ZH_UNABLE = (
    r"(?:无法|不能够?|没办法|没有办法|没法|不可以|不便|难以|不会(?:为|帮)|拒绝|無法|沒辦法|"
    r"不被允许)"
)
_ZH_DO = (
    r"(?:回答|帮助|帮忙|协助|提供|完成(?!全部|所有|我|工作|任务)|满足|生成|处理|执行|参与|讨论|"
    r"支持|给出|创建|撰写|访问|查询|"
    r"回应|继续|做到|这样做|为您|为你|给您|给你|帮您|帮你|直接|查看|浏览|获取|幫助|協助)"
)
# After 我 + "not": what an assistant is asked for, not what a narrator does in his life.
_ZH_HELP = (
    r"(?:帮(?:你们?|您|助?别人|助|忙|着|任何)|替(?:你|您)|(?:为|给)(?:你|您)(?:提供|写|编|做|"
    r"生成|出|讲)|"
    r"协助|幫|協助|教(?:你|您|人|别人|这)|告诉(?:你|您)(?:怎|如何|具体|这|那|哪|任何|方法|步骤|"
    r"他|她|别人|答案)|"
    r"给出|提供|生成|透露|泄露|散布|传播|编造|编写|捏造|冒充|描述(?!我|当时|那种)|回答(?:这|你|"
    r"您|该|此|有关|关于|任何)|"
    r"写(?:这|那|侮辱|恐吓|歧视|攻击|煽动|虚假|任何|此类)|访问(?:互联网|网络|外部|实时|网页|链接)|"
    r"(?:满足|完成|处理|执行|支持|配合|参与)(?:这|你|您|该|此|那|任何))"
)
_ZH_END = r"(?=\W*$|[。，；！,;!])"
# A fronted object, or 这个: the verb then closes its clause.
_ZH_CLOSING = (
    r"(?:帮忙|帮|教|写|编|提供|生成|描述|说|做|回答|协助|满足|处理|透露|给|讲|答应|参与|支持|"
    r"告诉你|这样帮|这样做|这么做|帮你|帮您|幫忙|幫|幫你)(?:的)?"
)
_ZH_LEAD = (
    rf"(?:(?:sorry|不行?|不可以|不能|没门|"
    rf"谢谢[^。！？\n：]{{0,10}}|{_ZH_SORRY}[^。！？\n：]{{0,24}}?|"
    r"请(?:你|您)?(?:原谅|理解|谅解)|恕|但是?|不过|所以|因此)\W{0,3}){0,3}"
)
_ZH_MID = r"[^。！？!?\n：:“”]{2,50}[，；,;]\s?(?:但是?|不过|可是?|所以|因此|也|而且|恕)?"
_ZH_TOPIC = r"(?:[^。！？!?\n：:“”，,；;]{1,30}?[，,]?)"
_ZH_THIS = r"(?:这|那|此|该)(?:个|件|种|些|类|样|封|篇|份|段)?"
_ZH_ON = rf"(?:{_ZH_LEAD}|{_ZH_MID})"

_CHINESE = [
    rf"(?:sorry\W{{1,4}})?{_ZH_SORRY}[^。！？\n：]{{0,36}}?{_ZH_UNABLE}[^。！？\n]{{0,8}}?{_ZH_DO}",
    rf"{_ZH_LEAD}我{_ZH_FIRM}{_ZH_UNABLE}[^。！？，,\n]{{0,6}}?{_ZH_DO}(?!我)",
    rf"{_ZH_ON}我{_ZH_FIRM}{_ZH_CANNOT}{_ZH_HELP}",
    rf"{_ZH_ON}{_ZH_TOPIC}?我{_ZH_FIRM}{_ZH_CANNOT}{_ZH_CLOSING}{_ZH_END}",
    rf"我不[^。！？，\n：]{{2,14}}，(?:也|更)(?:不会|不能|不想){_ZH_HELP}",
    rf"{_ZH_ON}我{_ZH_FIRM}{_ZH_CANNOT}帮(?:你|您)?(?:这个|这种|这样的)忙{_ZH_END}",
    rf"{_ZH_ON}{_ZH_THIS}[^。！？\n：，；]{{0,8}}?我?{_ZH_FIRM}{_ZH_CANNOT}(?:帮|教|写|编|提供|"
    rf"生成)(?:你|您|忙)?{_ZH_END}",
    rf"{_ZH_ON}(?:{_ZH_TOPIC}?(?:我|恕我))不(?:帮|教|编|提供){_ZH_END}",
    rf"{_ZH_ON}{_ZH_THIS}{_ZH_TOPIC}?我不(?:写|说|做|讲|答){_ZH_END}",
    rf"{_ZH_LEAD}[^。！？\n：，；我你他她]{{2,20}}的(?!作业|"
    rf"功课)[^。！？\n：，；]{{1,8}}我不写{_ZH_END}",
    rf"{_ZH_LEAD}{_ZH_THIS}{_ZH_TOPIC}?我{_ZH_CANNOT}(?:对|跟|向)[^。！？，\n]{{1,6}}?(?:说|做|"
    rf"讲){_ZH_END}",
    rf"{_ZH_LEAD}我不(?:写|编|提供|生成)(?:这|那|恐吓|侮辱|歧视|辱骂|威胁|攻击|虚假|假|谣)",
    rf"{_ZH_ON}{_ZH_TOPIC}?我?(?:可|真的|实在|也)?(?:帮不了|帮不上|写不了|教不了|编不了|提供不了|"
    rf"出不了|满足不了|幫不了)(?:你|您|这个忙|忙|这种|这个|这)?(?:的)?(?:忙)?{_ZH_END}",
    rf"{_ZH_ON}{_ZH_TOPIC}?恕(?:我)?(?:不能|无法|难以|不便|不|難以|"
    rf"無法)(?:从命|{_ZH_DO}|{_ZH_HELP}|{_ZH_CLOSING})",
    rf"{_ZH_ON}{_ZH_TOPIC}?我(?:一律|绝|绝对|从|坚决|一概)不(?:写|教|编|提供|帮|生成|"
    rf"参与){_ZH_END}",
    rf"{_ZH_ON}[^。！？\n：]{{0,20}}(?:的事|这种事|这件事|这样的事|的要求)，?我做不到{_ZH_END}",
    rf"(?:{_ZH_ON}我)?不参与(?:任何|这|此类)(?![^。]{{0,6}}投票)",
    rf"[^。！？\n：]{{2,40}}(?:所以|因此)我?(?:不能|无法|不会)(?:答应|帮忙|协助|帮你|"
    rf"提供){_ZH_END}",
    rf"{_ZH_ON}{_ZH_TOPIC}?我(?:不便|不方便)(?:猜测|评论|透露|回答|多说|置评)",
    rf"{_ZH_LEAD}(?:我的|相关|内容|安全|使用)[^。！？\n：，]{{0,6}}?(?:准则|政策|规定|规范|"
    rf"原则)(?:不允许|禁止)",
    r"(?:抱歉\W+)?(?:无法|無法|不能|不便)(?:协助|提供|回答|满足|帮助|幫助|協助|处理)(?:你|您|这|"
    r"此|该|這|相关)",
    rf"{_ZH_LEAD}(?:我(?:必须|只能|得|要)?|{_ZH_THIS}[^。！？\n：，]{{0,8}}?我(?:必须|只能|得|"
    rf"要)?)拒绝(?:{_ZH_HELP}|回答|这|你|您|此|该|{_ZH_END})",
    rf"{_ZH_LEAD}{_ZH_THIS}[^。！？\n：，]{{0,8}}?(?:违反|违背|不符合|超出|"
    rf"不在)[^。！？\n，]{{0,4}}?(?:了)?"
    r"(?:我|内容|安全|使用|平台|相关)[^。！？\n，]{0,6}?(?:政策|准则|原则|规定|规范|能力|范围|能)",
    rf"(?:{_ZH_SORRY}[，,])?(?:不行|不可以|不)[，,。！](?:这|那)(?:样|种事|么做)?(?:会|是|可能会?)"
    r"[^。！？\n，]{0,10}?(?:害|伤|违法|犯法|犯罪|危险)",
    rf"{_ZH_SORRY}[，,。！!\s]*(?:我)?(?:不能|无法|不行|做不到|帮不了你?您?)\W*$",
    # Less certain ways, with an offer of other help at once.
    r"(?:(?:[^。！？\n：“”]{2,30}，)?我(?:不能|不会|不想|不愿意?|没法|不|没有办法)"
    r"(?!保证|确定|确认|知道|太|能|清楚|懂|了解|记得|是|同意)|请不要(?=[^。！？]*(?:危险|严重|"
    r"受伤|致命|要命|感染|丧命)))"
    r"[^。！？\n]{2,60}[。！；](?:(?:如果|要是|若|假如|倘若)[^。！？\n]{2,50}，)?(?:但|不过|或许)?"
    r"(?:我(?:也|还|很|倒)?(?:可以|能|愿意|乐意)|(?:说说看，)?我(?=帮你)|要不要我|需要我)(?:帮|"
    r"给你|为你|陪|和你|教|讲|写|推荐|介绍|告诉|说|建议|想)",
]

# ---- An AI that speaks of what it is; these count wherever they stand in the opening -------

_SELF = [
    r"\bas an? (?:\w+ )?(?:ai|artificial intelligence|language model|ai language model|"
    r"large language model|assistant)\b[^.!?\n]{0,60}\bi (?:\w+ )?(?:can(?:no|['’])t|do(?:n['’]t| "
    r"not)|am (?:not|unable)|['’]m (?:not|unable)|lack|have no)",
    r"^\W*i(?: am|['’]m) (?:just |only )?an? (?:\w+ )?(?:ai|language model)\b"
    r"[^.!?\n]{0,60}\b(?:can(?:no|['’])t|unable|not able|do(?:n['’]t| not))",
    r"^\W*(?:sorry|apologies|i['’]m sorry|i am sorry)\b[^.!?\n]{0,40}?\b(?:as|since|because)\b"
    r"[^.!?\n]{0,20}\b(?:ai|language model)\b",
    r"(?:作为|身为|我(?:只)?是)[^。！？\n]{0,8}?(?:AI|人工智能|语言模型|大模型|智能助手|机器人|"
    r"程序(?!员))"
    r"[^。！？\n]{0,20}?[，,。]?[^。！？\n]{0,12}?(?:无法|不能|没有(?:能力|办法|权限|情感|个人)|"
    r"不具备|不会|不便)",
]


def _any(patterns: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)


_DECLINES_EN, _DECLINES_ZH, _SPEAKS_OF_ITSELF = _any(_ENGLISH), _any(_CHINESE), _any(_SELF)
# One of these is in every refusal; most answers are let go by this quick look.
_MARKS = (
    *("n't", "n’t", "not", "cant", "no ", "no.", "no,", "no!", "no;", "no:", "nope", "unable"),
    *("unwilling", "declin", "refus", "rather", "pass on", "against", "outside", "beyond"),
    *(
        "violat",
        "breach",
        "breaks",
        "can t",
        "lack",
        "不",
        "无",
        "無",
        "没",
        "沒",
        "拒",
        "恕",
        "违",
    ),
    *("超出",),
)
_CJK = re.compile(r"[\u4e00-\u9fff]")
_QUOTED = re.compile(
    r"“[^”]*(?:”|$)|\"[^\"]*(?:\"|$)|«[^»]*(?:»|$)|「[^」]*(?:」|$)|『[^』]*(?:』|$)"
)
_PREFIX = re.compile(
    r"(?:answer|output|response|assistant|回答|答案|答|输出|助手)\s*[:：]\s*", re.I
)
# Letters and notes, and a label or a lead-in before what is declined ("Translation: ...").
_LETTER = re.compile(
    r"(?:dear|subject|re|to whom)\b|(?:hi|hello|hey),? (?-i:(?!There)[A-Z]\w+)\s*[,!]|(?:尊敬|"
    r"亲爱)的|主题|[您你]好[，,！!]?\n|[^\n]{0,90}(?:->|→|=>)",
    re.I,
)
_LABEL = re.compile(
    r"(?!(?:let me stop|my answer is no|no\b))[^.!?。！？\n:：]{0,90}[:：]",
    re.I,
)
_END = re.compile(r"[.!?]+[\s)]+|[。！？]+\s*|\n+\s*")
_TO_THE_USER = re.compile(
    r"\b(?:you|your|you['’]re|sorry|thanks?|understand|please|harmful|illegal|against the law|"
    r"dangerous|a crime|unethical|harms?|hurts?)\b|^\W*(?:not a chance|absolutely not|no way|"
    r"never)\b|[你您]|违法|犯罪|危险|伤害|抱歉|难过|理解|谢谢|对不起",
    re.I,
)
_SAID = re.compile(
    r"[^.!?。！？\n]{0,60}[,，] ?(?:(?:she|he|they|i|we|the \w+|\w+)(?: \w+)? (?:said|says|"
    r"thought|replied|wrote|answered|whispered|cried)\b|(?:said|replied|cried|thought|answered) |"
    r"[^。！？\n，]{1,8}?(?:说|写道|想|答道|喊道)[。，])",
    re.I,
)


def is_refusal(text: str) -> bool:
    """Whether the answer opens by declining the task (an apology alone is none).

    Phrase rules, English and Chinese. They look at the first 240 characters only, there at the
    first three sentences, and pass over what is quoted, labelled ("Translation: ...") or said in
    a letter, so a refusal told about in an answer does not count.
    """
    opening = text.strip()[: 2 * _OPENING_CHARACTERS]
    folded = opening[:_OPENING_CHARACTERS].lower()
    if not any(mark in folded for mark in _MARKS):
        return False
    opening = _own_words(opening)[:_OPENING_CHARACTERS]
    if _SPEAKS_OF_ITSELF.search(opening) is not None:
        return True
    opening = _before_label(opening)
    declines = _DECLINES_ZH if _CJK.search(opening) else _DECLINES_EN
    return any(_declined(declines, opening, start) for start in _starts(opening))


def _own_words(opening: str) -> str:
    """Without a leading "Answer:" and without quotations, unless all of it stands in quotes."""
    prefix = _PREFIX.match(opening)
    opening = opening if prefix is None else opening[prefix.end() :]
    bare = _QUOTED.sub(" “” ", opening)
    return bare if re.search(r"\w", bare) else opening.strip('“”"«»「」『』 ')


def _before_label(opening: str) -> str:
    if _LETTER.match(opening) is not None:
        return ""
    label = _LABEL.match(opening)
    return opening if label is None else label.group()


def _starts(opening: str) -> list[int]:
    """Where the first sentences begin; later ones only after words to the user."""
    first = re.match(r"\W*", opening)
    starts = [first.end() if first else 0]
    for end in _END.finditer(opening, starts[0]):
        spoken = opening[: end.start()]
        if len(starts) == _SENTENCES:
            break
        if len(spoken) <= 5 or _TO_THE_USER.search(spoken) is not None:
            starts.append(end.end())
    return starts


def _declined(declines: re.Pattern[str], opening: str, start: int) -> bool:
    found = declines.match(opening, start)
    return found is not None and _SAID.match(opening, found.end()) is None


_DISCLAIMER = re.compile(
    r"\b(?:as|being|since i am|since i['’]m|because i am|because i['’]m|i am|i['’]m)"
    r" (?:just |only |merely |simply )?an? (?:\w+[ -]){0,2}?"
    r"(?:ai|a\.i\.|artificial intelligence|(?:large )?language model|chatbot)\b"
    r"(?! (?:researcher|engineer|scientist|expert|company|startup|student|developer|specialist))"
    r"|\bmy (?:training data|knowledge cut-?off)\b|\btrained by (?:openai|anthropic|google|meta)\b"
    r"|(?:作为|身为|我(?:只|仅仅|仅)?是)(?:一个|一名|一款|一种)?[^。！？，,\n]{0,8}?"
    r"(?:AI|人工智能|语言模型|大模型|智能助手|聊天机器人)"
    r"(?!(?:研究|工程|专家|公司|专业|领域|行业|学生|开发|的(?:研究|一|重要|核心|基础|分支)))"
    r"|我的(?:训练数据|知识截止)|由(?:OpenAI|Anthropic|谷歌|百度|阿里)(?:训练|开发)",
    re.IGNORECASE,
)


def disclaimer(text: str) -> str | None:
    """Where a text says of itself, anywhere, that an AI wrote it ("as an AI language model",
    "作为一个人工智能"): the words, else None.

    Found by phrase: a story that has a robot say so has them too.
    """
    found = _DISCLAIMER.search(text)
    return None if found is None else text[max(0, found.start() - 20) : found.end() + 40].strip()
