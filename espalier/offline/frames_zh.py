# ruff: noqa: E501 - a phrasing reads best on one line
"""The Chinese open tasks of the offline teacher's Self-Instruct (see `frames_en`)."""

from __future__ import annotations

from collections.abc import Mapping

from espalier.offline.family import Group
from espalier.offline.frame import Answer, Entry, Frame

_REMARKS = {
    "公交车又晚点了": "生气",
    "没有人来参加我的生日会": "难过",
    "我们赢了最后一场比赛": "自豪",
    "厨房里有奇怪的声音": "害怕",
    "妹妹考上了大学": "高兴",
    "有人占了我的座位": "生气",
    "汤第三次端上来还是凉的": "不满",
    "明天要在一百人面前讲话": "紧张",
    "老狗昨晚死了": "难过",
}
_SAYINGS = {
    "熟能生巧": "做得多了就会做得好。",
    "欲速则不达": "太着急反而做不成。",
    "众人拾柴火焰高": "人多力量大。",
    "亡羊补牢": "出了错及时改正还不晚。",
    "画蛇添足": "做了多余的事反而坏事。",
    "水滴石穿": "坚持下去就能成功。",
    "三思而后行": "做事之前要想清楚。",
    "入乡随俗": "到了别处就按那里的习惯做。",
}
_CAUSES = {
    "把冰淇淋放在太阳下": "它会化掉。",
    "一个月不给花浇水": "花会干死。",
    "玻璃杯掉在石头地上": "杯子会碎。",
    "没有人给火添柴": "火会灭。",
    "忘了烤箱里的面包": "面包会烤焦。",
    "茶里放了盐": "茶会很难喝。",
    "手机一直不充电": "手机会没电。",
    "一夜只睡三个小时": "第二天会很累。",
    "下了一夜大雨": "地上会积水。",
}
_WEIGHTS = {
    "一根羽毛": 1, "一个纸杯": 2, "一支铅笔": 3, "一个苹果": 4, "一瓶水": 5, "一只家猫": 6,
    "一辆自行车": 7, "一个大人": 8, "一架钢琴": 9, "一辆小汽车": 10, "一头蓝鲸": 11,
}  # fmt: skip
_ENGLISH = {
    "水": "water", "面包": "bread", "房子": "house", "朋友": "friend", "夜晚": "night",
    "太阳": "sun", "牛奶": "milk", "月亮": "moon", "窗户": "window", "花园": "garden",
}  # fmt: skip
_WORDY = {
    "由于下雨的原因所以我们就待在了家里": "下雨了，我们待在家",
    "她是一个非常喜欢看书的人": "她爱看书",
    "在目前这个时候我们还没有得到答案": "我们还没有答案",
    "他做出了离开小镇的决定": "他决定离开小镇",
    "这座房子的颜色是红的面积是大的": "这座房子又红又大",
    "我个人认为这个计划我觉得很好": "我觉得计划很好",
}
_FACTORS = {"小时换成分钟": (60, "分钟"), "天换成小时": (24, "小时"), "米换成厘米": (100, "厘米"),
            "周换成天": (7, "天"), "公斤换成克": (1000, "克"), "年换成月": (12, "个月")}  # fmt: skip
_CHARACTERS = "零一二三四五六七八九"

VALUES: Mapping[str, tuple[str, ...]] = {
    "topic": (
        "雨后的味道", "丢失的雨伞", "清晨的火车", "城市花园", "学游泳", "旧信件", "新鲜面包", "夜空",
        "节约用水", "下雨的假期", "第一辆自行车", "种番茄", "散步", "坏掉的钟", "冬天的早晨", "好邻居",
        "安静的图书馆", "坐船旅行", "吵闹的聚会", "睡个好觉", "牛奶涨价", "胆小的狗", "山里的空气",
        "作业太多", "搬家", "公交车", "生日惊喜", "废纸回收", "海鸟", "学校午餐", "木头玩具", "太阳能",
        "象棋俱乐部", "和朋友喝茶", "周末集市", "打翻的咖啡", "最后一片叶子", "夏天的暴雨", "蜜蜂", "骑马",
        "空荡的海滩", "家传菜谱",
    ),
    "audience": (
        "五岁的孩子", "我奶奶", "新同学", "忙碌的护士", "疲惫的父母", "外国客人", "足球队员",
        "全办公室的人", "初学者", "严厉的老板", "年轻农民", "讨厌看书的人",
    ),
    "person": (
        "老水手", "年轻医生", "我的邻居", "孤独的国王", "村里的面包师", "两姐妹", "高个子服务员",
        "新来的老师", "退休飞行员", "我最好的朋友", "小女孩", "公交司机",
    ),
    "thing": (
        "银钥匙", "会说话的鱼", "几枚旧硬币", "木盒子", "绿帽子", "没寄出的信", "金戒指", "坏手表",
        "一只红鞋", "一袋种子", "很小的门", "暖和的毯子", "长梯子", "一罐纽扣",
    ),
    "tone": ("好笑", "伤感", "奇怪", "欢快", "吓人", "平静"),
    "place": (
        "火车站", "港口", "小厨房", "老博物馆", "校园", "山间小屋", "镇上的图书馆", "拥挤的菜市场",
        "后院", "病房", "游泳池", "安静的办公室",
    ),
    "time": ("黎明", "半夜", "八月的中午", "冬末", "关门前"),
    "event": (
        "电梯坏了", "今天午饭免费", "我们六点关门", "狗不能进来", "会议推迟开始", "捡到一件蓝大衣",
        "地面很滑", "欢迎新会员", "中午以前停水", "这里禁止吸烟",
    ),
    "favor": (
        "借我一顶帐篷", "还我的书", "周日帮忙喂猫", "重新寄账单", "检查我的作业", "挪一下车",
        "早来一个小时", "带一个蛋糕", "把收音机关小", "签两张表",
    ),
    "habit": (
        "走路上班", "多吃蔬菜", "写日记", "学一门外语", "早点睡觉", "每年种一棵树", "给老朋友打电话",
        "存一点钱", "少喝咖啡", "睡前看书", "每天早上拉伸", "在家做饭",
    ),
    "business": (
        "车站旁的面包店", "二手自行车店", "舞蹈学校", "湖边茶馆", "擦窗户的公司", "夜间出租车",
        "猫的旅馆", "卖奶酪的农场", "慢跑俱乐部",
    ),
    "wish": ("好记", "听起来老派又诚实", "让人微笑", "只有两个字", "孩子们喜欢", "带一个花字"),
    "product": (
        "保暖袜子", "无声闹钟", "有机苹果汁", "折叠椅", "自行车灯", "狗用洗发水", "黑巧克力", "雨靴",
        "纸吸管",
    ),
    "food": (
        "两个鸡蛋", "昨天的米饭", "一罐豆子", "软番茄", "老奶酪", "半只鸡", "三个土豆", "一把坚果",
        "冻豌豆",
    ),
    "limit": ("我只有十分钟", "烤箱坏了", "客人快到了", "我不能吃盐", "家里没有油了", "孩子们饿了"),
    "word": ("水滴石穿", "春夏秋冬", "东南西北", "山高水长", "风花雪月", "日月星辰", "红黄蓝白"),
    "translated": tuple(_ENGLISH),
    "small": ("两", "三", "四", "五", "六"),
    "remark": tuple(_REMARKS),
    "saying": tuple(_SAYINGS),
    "cause": tuple(_CAUSES),
    "heavy": tuple(_WEIGHTS),
    "wordy": tuple(_WORDY),
    "many": ("12", "15", "18", "20", "24", "30", "36", "40"),
    "few": ("2", "3", "4", "5", "6", "7", "8", "9"),
    "goods": ("邮票", "红色弹珠", "漫画书", "贝壳", "热馒头", "车票"),
    "first": ("小兰", "王先生", "李阿姨", "队长", "爷爷", "小胖", "张老师"),
    "problem": (
        "脚冷", "街上太吵", "饥饿的老鼠", "无聊的晚上", "屋顶漏水", "排长队", "架子上的灰尘", "噩梦",
    ),
    "role": (
        "船上的厨师", "博物馆讲解员", "天气播报员", "严格的法官", "太空旅行者", "害羞的园丁",
        "有名的歌手", "守夜人",
    ),
    "situation": (
        "丢了工作", "没考过驾照", "打碎了心爱的杯子", "害怕坐飞机", "搬到很远的地方", "刚生了孩子",
        "忘了我的生日", "总和人吵架", "晚上睡不着",
    ),
    "polite": ("说不", "结束很长的电话", "要求打折", "谢绝再吃一碗", "指出小错误", "换个话题", "提前离开聚会"),
    "feeling": ("累", "紧张", "孤单", "无聊", "有点嫉妒", "迷茫"),
    "part": ("动词", "地点", "人名", "数量", "颜色"),
    "style": ("问句", "否定句", "过去的事", "将来的事"),
    "unit": tuple(_FACTORS),
    "hundreds": ("40", "80", "120", "200", "400", "600", "1000"),
    "day": tuple(str(day) for day in range(1, 29)),
    "month": tuple(str(month) for month in range(1, 13)),
    "rule": ("像小声说话一样", "只用短句", "结尾要出人意料", "只用一句话", "不要用“的”字", "先写天气"),
    "label": ("平静还是生气", "正式还是随便", "工作还是家庭", "事实还是看法"),
}  # fmt: skip


def _bank(text: str, verb: str, place: str, person: str, number: str, color: str, question: str,
          negative: str, past: str, future: str, labels: str) -> Entry:  # fmt: skip
    names = dict(zip(VALUES["label"], labels.split(), strict=True))
    return {
        "input": text, "动词": verb, "地点": place, "人名": person, "数量": number, "颜色": color,
        "问句": question, "否定句": negative, "过去的事": past, "将来的事": future, **names,
    }  # fmt: skip


_SENTENCES: tuple[Entry, ...] = (
    _bank("小兰在北京买三个绿苹果。", "买", "北京", "小兰", "三个", "绿",
          "小兰在北京买三个绿苹果吗？", "小兰没有在北京买三个绿苹果。",
          "小兰昨天在北京买了三个绿苹果。", "小兰明天要在北京买三个绿苹果。", "平静 正式 家庭 事实"),
    _bank("老陈在上海刷两扇蓝门。", "刷", "上海", "老陈", "两扇", "蓝",
          "老陈在上海刷两扇蓝门吗？", "老陈没有在上海刷两扇蓝门。",
          "老陈昨天在上海刷了两扇蓝门。", "老陈明天要在上海刷两扇蓝门。", "平静 正式 工作 事实"),
    _bank("阿芳在成都卖九盏白灯。", "卖", "成都", "阿芳", "九盏", "白",
          "阿芳在成都卖九盏白灯吗？", "阿芳没有在成都卖九盏白灯。",
          "阿芳昨天在成都卖了九盏白灯。", "阿芳明天要在成都卖九盏白灯。", "平静 正式 工作 事实"),
    _bank("大刘真讨厌武汉家里那五把黑椅子！", "讨厌", "武汉", "大刘", "五把", "黑",
          "大刘讨厌武汉家里那五把黑椅子吗？", "大刘不讨厌武汉家里那五把黑椅子。",
          "大刘以前讨厌武汉家里那五把黑椅子。", "大刘以后会讨厌武汉家里那五把黑椅子。",
          "生气 随便 家庭 看法"),
    _bank("哇，小周在西安做四条红鱼，太香了！", "做", "西安", "小周", "四条", "红",
          "小周在西安做四条红鱼吗？", "小周没有在西安做四条红鱼。",
          "小周昨天在西安做了四条红鱼。", "小周明天要在西安做四条红鱼。", "平静 随便 家庭 看法"),
)  # fmt: skip


def _convert(slots: Mapping[str, str], _: Entry) -> str:
    factor, unit = _FACTORS.get(slots["unit"], (1, ""))
    return f"{int(slots['few']) * factor}{unit}"


def _heavier(slots: Mapping[str, str], _: Entry) -> str:
    best = max((slots["heavy"], slots["heavy2"]), key=lambda item: _WEIGHTS.get(item, 0))
    return f"{best}，因为它大得多。"


def _of(table: Mapping[str, str], slot: str) -> Answer:
    return lambda slots, _: table.get(slots[slot], f"要看{slots[slot]}的情况。")


def _asked(slot: str) -> Answer:
    return lambda slots, entry: entry.get(slots[slot], "文中没有。")


def _in_characters(slots: Mapping[str, str], _: Entry) -> str:
    return "".join(_CHARACTERS[int(digit)] for digit in slots["hundreds"])


def _frame(group: Group, text: str, answer: Answer, inputs: tuple[Entry, ...] = ()) -> Frame:
    return Frame("zh", group, text, answer, VALUES, inputs)


def _labelled(text: str, answer: Answer, inputs: tuple[Entry, ...]) -> Frame:
    return Frame("zh", "understanding", text, answer, VALUES, inputs, labelled=True)


def _sorted(labels: Mapping[str, tuple[str, ...]]) -> tuple[Entry, ...]:
    """Inputs to classify, from the inputs of each label."""
    return tuple(
        {"input": text, "label": label} for label, texts in labels.items() for text in texts
    )


def _label(_: Mapping[str, str], entry: Entry) -> str:
    return entry.get("label", "说不准。")


_REVIEWS = _sorted({
    "好评": ("天天用，两年了还跟新的一样。", "又给妈妈买了一份，她见了就笑。"),
    "差评": ("第二天就散了架，写信也没人回。", "用了不到一小时就去退货了。"),
})  # fmt: skip
_MESSAGES = _sorted({
    "提问": ("你们五月一号开门吗？", "这个价钱包不包送货？"),
    "投诉": ("等了四十分钟，最后让我回家。", "第二张账单也算错了。"),
    "感谢": ("你们同事帮我找到了围巾，真是太好了！", "昨天下午过得很开心，明年再来。"),
})  # fmt: skip
_FINDS = _sorted({
    "食物": ("半条黑面包", "一袋李子干"),
    "工具": ("生锈的钳子", "折叠锯"),
    "动物": ("楼梯下的刺猬", "两只睡着的飞蛾"),
})  # fmt: skip
_CLAIMS = _sorted({
    "对": ("一个星期有七天。", "冰能浮在水面上。"),
    "错": ("太阳从西边升起。", "蜘蛛有四条腿。"),
})  # fmt: skip


FRAMES_ZH: tuple[Frame, ...] = (
    _frame("generation", "[为|给]{audience}写一首关于{topic}的[小|短]诗。",
           "{topic}轻轻来，陪我到天明。"),
    _frame("generation", "讲一个{tone}的故事：{person}找到了{thing}。",
           "有一天，{person}找到了{thing}，一直好好收着。"),
    _frame("generation", "给{business}取个名字，要{wish}。", "可以叫“早晨”，适合{business}。"),
    _frame("generation", "写[一封邮件|一张便条]，请{person}{favor}。", "您好，麻烦您{favor}，非常感谢！"),
    _frame("generation", "说出{small}个{habit}的理由。", "因为健康、省钱，{habit}还让人开心。"),
    _frame("generation", "在{place}贴一张通知：{event}。", "请注意：{event}。谢谢配合。"),
    _frame("generation", "替{product}想一句广告语，{rule}。", "{product}，就是更好。"),
    _frame("generation", "{limit}，用{food}和{food2}能做什么菜？", "把{food}和{food2}一起炒，加点胡椒。"),
    _frame("generation", "描写{time}的{place}，{rule}。", "{time}的{place}很安静，有雨的味道。"),
    _frame("generation", "以{person}的口气给{audience}写信的开头，谈谈{thing}。",
           "你好，你一定想不到我和{thing}的事。"),
    _frame("generation", "出{small}道和{topic}有关的问答题。", "{topic}从哪里来？谁最喜欢{topic}？"),
    _labelled("下面这段话是{label}？", _asked("label"), _SENTENCES),
    _labelled("{person}评{product}，是好评还是差评？", _label, _REVIEWS),
    _labelled("提问、投诉还是感谢：{person}给{business}留了什么言？", _label, _MESSAGES),
    _labelled("{person}在{place}找到的是食物、工具还是动物？", _label, _FINDS),
    _labelled("在{place}听人谈{topic}，说得对还是错？", _label, _CLAIMS),
    _frame("understanding", "[找出|指出|写下]所给句子里的{part}。", _asked("part"), _SENTENCES),
    _frame("understanding", "有人说“{remark}”，他心里[怎么样|有什么感受]？", _of(_REMARKS, "remark")),
    _frame("understanding", "向{audience}解释“{saying}”。", _of(_SAYINGS, "saying")),
    _frame("understanding", "{saying}这句话告诉我们什么道理？", _of(_SAYINGS, "saying")),
    _frame("understanding", "用一句话说明{audience}为什么喜欢{topic}。", "因为{topic}能带来一点快乐。"),
    _frame("understanding", "一篇文章讲了{topic}和{topic2}，拟个标题。", "《{topic}与{topic2}》"),
    _frame("understanding", "{topic}跟{topic2}有什么共同点？", "都能让普通的一天变好。"),
    _frame("understanding", "{topic}会先惹恼{person}还是{audience}？", "我想会先惹恼{person}。"),
    _frame("reasoning", "{first}有{many}个{goods}，送走{few}个，还剩多少？",
           lambda slots, _: f"{int(slots['many']) - int(slots['few'])}个"),
    _frame("reasoning", "{goods}每个{few}元，{first}买{many}个要付多少钱？",
           lambda slots, _: f"{int(slots['few']) * int(slots['many'])}元"),
    _frame("reasoning", "{heavy}和{heavy2}哪个更重？为什么？", _heavier),
    _frame("reasoning", "如果{cause}，会怎么样？", _of(_CAUSES, "cause")),
    _frame("reasoning", "为什么{habit}应该放在{habit2}之前？", "因为先{habit}更有精神。"),
    _frame("reasoning", "遇到{problem}，{thing}和{thing2}哪样更有用？讲一个原因。",
           "{thing}更有用，因为更容易拿来对付{problem}。"),
    _frame("reasoning", "{person}能独自抬着{heavy}走过{place}吗？",
           lambda slots, _: "不能，太重了。" if _WEIGHTS.get(slots["heavy"], 0) > 6 else "能，很轻。"),
    _frame("reasoning", "{first}从{few}点开始干活，干了{few2}小时，几点干完？",
           lambda slots, _: f"{(int(slots['few']) + int(slots['few2']) - 1) % 12 + 1}点"),
    _frame("dialogue", "扮演{role}，和{person}聊聊{topic}。", "晚上好！我是{role}，很懂{topic}。"),
    _frame("dialogue", "我朋友{situation}，我该[怎么安慰|对他说什么]？", "就说：听说你{situation}，我陪着你。"),
    _frame("dialogue", "和{audience}在一起时，怎样礼貌地{polite}？", "先笑着道谢，再温和地{polite}。"),
    _frame("dialogue", "{person}迷上了{topic}，推荐一件礼物吧。", "送一本讲{topic}的小书。"),
    _frame("dialogue", "因为{topic}，我觉得{feeling}，逗我开心一下。", "别难过，{topic}很快会变好的。"),
    _frame("dialogue", "像{role}那样回答：哪里能买到{thing}？", "{thing}不好找，去早市看看吧。"),
    _frame("dialogue", "帮{person}在{product}与{product2}之间做选择。", "选{product}，用得更多。"),
    _frame("dialogue", "{person}想{habit}，可是{situation}，有建议吗？", "慢慢来，每周先{habit}一次。"),
    _frame("transformation", "把下面的句子改写成{style}。", _asked("style"), _SENTENCES),
    _frame("transformation", "“{translated}”[的英文是什么|翻成英文]？", _of(_ENGLISH, "translated")),
    _frame("transformation", "{few}{unit}。", _convert),
    _frame("transformation", "精简这句话：{wordy}。", _of(_WORDY, "wordy")),
    _frame("transformation", "{month}月{day}日用数字[怎么写|写成四位]？",
           lambda slots, _: f"{int(slots['month']):02d}{int(slots['day']):02d}"),
    _frame("transformation", "在“{word}”的每个字之间加空格。", lambda slots, _: " ".join(slots["word"])),
    _frame("transformation", "将数字{hundreds}逐位写成汉字。", _in_characters),
    _frame("transformation", "把“{event}”改成{person}发给{audience}的[正式|亲切]消息。",
           "各位好，{event}，祝好！"),
    _frame("transformation", "用横线连接{food}、{product}、{thing}。", "{food}-{product}-{thing}"),
)  # fmt: skip

FORBIDDEN_ZH: tuple[str, ...] = (
    "画一张{thing}的图片。",
    "根据{product}一年的价格画出图表。",
    "打开关于{topic}的文件，数一数有几行。",
    "在地图上找到{place}并标红。",
    "描述下面图片里{person}在做什么。",
    "编写一个程序，给{goods}按价格排序。",
    "比较这两张{topic}的照片。",
    "听一段{topic}的音频并写下内容。",
)
MALFORMED_ZH: tuple[str, ...] = (
    "写诗",
    "为什么",
    "……{topic}等等",
    "唱",
    "——{habit}，还有{habit2}",
    "？",
)
