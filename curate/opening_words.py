"""Word lists of the opening heuristic: small, closed classes and common imperatives."""

from __future__ import annotations


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Verbs with which instructions begin.
VERBS = _set(
    """
    abbreviate accept act adapt add address adjust advise aggregate alphabetize alphabetise alter
    amend analyse analyze annotate answer append apply approximate argue arrange ask assemble assess
    assign assume attempt avoid back balance begin brainstorm break brief bring build calculate
    capitalize capitalise carry cast categorize categorise change characterize check choose cite
    clarify classify clean code collect combine come comment compare compile complete compose
    compress compute conclude condense conduct confirm connect consider construct continue contrast
    convert copy correct count craft create criticize critique debug decide declare decode decompose
    deduce define deliver demonstrate derive describe design detail detect determine develop devise
    diagnose diagram differentiate discuss display distinguish divide do draft draw edit elaborate
    eliminate enter encode encrypt end enumerate estimate evaluate examine execute expand explain
    explore express extend extract factor fill filter find finish fit fix follow forecast form
    format formulate gather generate get give go graph group guess guide help highlight hypothesize
    identify ignore illustrate imagine implement improve include incorporate indicate infer inform
    insert inspect instruct integrate interpret introduce invent investigate invert join judge
    justify keep label lay list locate look make map mark match measure mention merge model modify
    multiply name narrate negate normalize note number observe offer optimize order organize
    organise outline output paint paraphrase parse pass pen perform persuade pick place plan play
    plot point portray pose practice predict prepare present pretend prioritize prioritise produce
    program promote proofread propose prove provide pull punctuate put quiz quote randomize rank
    rate read rearrange reason recall recast recite recommend reconstruct record recount rectify
    reduce refactor refer refine reflect reformat reformulate refute reject relate remove rename
    render reorder reorganize repeat rephrase replace reply report represent request research
    resolve respond restate restructure retell retrieve return reveal reverse review revise rewrite
    rhyme role-play roleplay round sample scale schedule score search section select separate set
    shift shorten show shuffle sift simplify simulate sketch soften solve sort speak specify
    spell split spot start state stop strengthen structure study subtract suggest sum summarise
    summarize supply support swap switch synthesise synthesize tabulate tag take talk teach tell
    test think trace train transcribe transform translate transpose treat trim troubleshoot turn
    understand unscramble update use utilize validate verify view visualize vote wait walk warn
    watch word work wrap write
    """
)

# Skipped in front of the verb, beside the adverbs in -ly.
SKIPPED = _set("please always never do don't not just also then now short new good brief long")

# Behind phrasal verbs: "work out the …", "come up with a …", "fill in the …".
PARTICLES = _set("out up down off over back through with")

# Who gets it: "give *me* a list".
RECIPIENTS = _set("me us him her them it yourself everyone someone children students")

DETERMINERS = _set(
    """
    a an the this that these those my your his her its our their some any all both each every
    another one two three four five six seven eight nine ten twelve twenty several many few more
    most at least exactly no only as such same other own following given below above
    """
)

# Whatever ends the object's phrase.
PHRASE_ENDS = _set(
    """
    of for in on about with without from to into onto by as at between among against during within
    under over after before since until towards toward through across per via than like using based
    that which who whom whose what when where why how whether if because so while although
    and or but nor then is are was were be been being am has have had does did do will would can
    could should may might must not you i we they he she it me us him them there here up out off
    """
)

AUXILIARIES = _set(
    """
    is are was were am do does did can could should would will may might must has have had
    isn't aren't don't doesn't didn't can't shouldn't won't
    """
)
PRONOUNS = _set("i you we they he she it one someone people")
WH_WORDS = _set("what which who whom whose when where why how what's who's where's how's")
ADJECTIVE_ENDINGS = ("ful", "ive", "ous", "al", "ish", "able", "ible", "ic", "ent", "ant", "y")

# Nouns in -s that are no plurals.
NO_PLURAL = _set("news series species lens mathematics physics politics economics always css js")

# Chinese imperatives that the tagger takes for something else at times.
VERBS_ZH = _set(
    """
    写 编写 撰写 续写 改写 扩写 缩写 仿写 设计 翻译 总结 概括 归纳 分析 比较 对比 检验 检查 判断 
    解释 说明 描述 介绍 列出 列举
    举例 提取 抽取 找出 指出 挑出 选出 选择 分类 归类 排序 排列 整理 调整
    修改 纠正 润色 转换 换算 计算 求解 解答 回答 推荐 建议 生成 创作 构思 拟定 起草 制定 规划 编造
    讨论 讲述 叙述 扮演 模拟 推理 推断 预测 估算 证明 完成 补全 填空 简化 精简 缩短 重写 重述 表达
    提供 给出 告诉 定义 评价 评估 识别 标注 统计 合并 拆分 删除 替换 输出 阅读 朗读
    """
)
WH_WORDS_ZH = _set("什么 为什么 为何 如何 怎么 怎样 怎么样 哪些 哪个 哪里 谁 多少 几 是否 吗")

# What ends the object's phrase.
BREAKS_ZH = _set("、 和 与 及 以及 或 或者 并 并且 为 成 到 用 以 在 使 让 从 给 （ ( “ ” 《 》")

# Chinese auxiliaries and light verbs that frame an instruction.
NO_VERBS_ZH = _set(
    """
    请 请问 请你 请您 是 有 没有 会 能 能够 可以 可能 应 应该 应当 需要 需 要 想 想要 希望 让 使
    帮 帮忙 帮助 给 给定 来 去 到 在 用 使用 利用 根据 按照 依据 基于 以 为 作为 关于 如下 按
    下列 下面 想象 假设 假如 假定 如果 已知 叫 成 可 得 看 觉得 知道 进行 加以 予以 不要
    属于 像 描写 能否 有没有 应当 从 一下
    """
)
