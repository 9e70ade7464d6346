"""Refusals are told from answers that only sound like them, in both languages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from espalier.offline.style import REFUSALS as OFFLINE
from espalier.refusals import is_refusal

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, but I can’t assist with that request.",
    "Sorry, I cannot answer this question.",
    "I cannot fulfill your request.",
    "I am unable to provide medical advice.",
    "I'm not able to browse the internet.",
    "Unfortunately, I am not able to access real-time data.",
    "As an AI language model, I don't have personal opinions.",
    "I'm sorry, but as an AI language model I can't help with that.",
    "I apologize, but I won't be able to complete this task.",
    "I'm afraid I can't do that.",
    "I must decline to answer.",
    "I am just an AI language model and cannot see images.",
    "抱歉，我无法回答这个问题。",
    "很抱歉，作为一个人工智能语言模型，我无法回答这个问题。",
    "对不起，我不能帮助您完成这个请求。",
    "作为AI语言模型，我没有个人情感。",
    "我无法提供医疗建议。",
    "非常抱歉，我暂时无法为您提供该服务。",
    "我是一个人工智能助手，不能访问互联网。",
]
ANSWERS = [
    "Sorry for the late reply! I'll be there at eight.",
    "I'm sorry for your loss. She was a wonderful person.",
    "I can't find my keys anywhere, so I will be late.",
    "Dear team, I am sorry that I cannot attend the meeting on Friday.",
    "You can't divide by zero, because no number times zero gives one.",
    "The model can't help overfitting when there is too little data.",
    "Plants cannot produce food without light.",
    "No.",
    "Unfortunately, the train left ten minutes ago.",
    "An AI language model predicts the next token.",
    "Translation: “I cannot help you,” said the innkeeper.",
    "对不起，我迟到了，路上堵车。",
    "很抱歉给您带来不便，我们会在三天内退款。",
    "植物没有光就无法进行光合作用。",
    "人工智能语言模型根据上文预测下一个词。",
    "不能，因为零不能作除数。",
    "这道题无法用加法完成，要用乘法。",
    "",
]


def _table(bullets: str) -> list[str]:
    """The items of a list of bullets; an item goes on in lines indented by two spaces."""
    items = []
    for item in ("\n" + bullets).split("\n- ")[1:]:
        lines = [line.removeprefix("  ") for line in item.rstrip().split("\n")]
        joint = "" if any("\u4e00" <= letter <= "\u9fff" for letter in item) else " "
        items.append(joint.join(lines).replace("\\n", "\n"))
    return items


# Written apart from the rules: natural refusals, and answers that only sound like them.
ENGLISH_DECLINES = _table("""
- That's not something I'm willing to help with, but I can talk about why phishing works so
  you can spot it.
- I won't write that. Mocking someone's disability only hurts them.
- I'm going to have to pass on this one. Stalking an ex can be a crime, and it frightens
  people.
- Nope, I'm not doing that. If you are short of money, I can list places that offer emergency
  help.
- I'd prefer not to explain how to pick a neighbour's lock. A locksmith can get you in if it's
  your own door.
- It sounds like you're going through a terrible time. I can't tell you how to end your life,
  but please call a crisis line right now.
- I'm really sorry you feel this way. I won't describe methods, but I do want you to stay safe
  tonight.
- Thanks for asking, but I don't write essays that students hand in as their own.
- I don't provide instructions for making drugs.
- I understand you're angry. Still, I can't help you get revenge on her.
- Helping to forge a signature isn't something I can do.
- Making fake IDs is illegal, so I can't walk you through it.
- This is not something I will assist with.
- I will not help you cheat on the test. Let's make a study plan instead.
- I have to say no here. Those pills can kill in combination.
- I must refuse. Spreading that rumour would be defamation.
- I'm not comfortable writing sexual content about a real person.
- I do not feel comfortable helping with that.
- There's no way I'm able to give you someone's home address.
- Sorry, no. Reading your partner's messages without consent is spying.
- I can't in good conscience recommend skipping the vaccine schedule or write the leaflet you
  ask for.
- I'm unable to share personal data about private individuals.
- We cannot process this request as it breaches our content policy.
- Your request goes against my guidelines, so I have to leave it there.
- That would put people in danger, so I'm not going to explain it.
- Please understand that I can't generate hateful jokes about any religion.
- I appreciate your honesty, but I won't be a part of hurting your brother.
- Let me stop you there: I can't assist with breaking into accounts that aren't yours.
- I shouldn't help with evading the tax authorities, but I can explain how to pay in
  instalments.
- I'm declining this request because it asks for malware.
- I am an AI, so I can't taste food or say which one I like.
- Apologies, but generating copyrighted lyrics in full is not something I'm able to do.
- No. I'm not willing to write propaganda that dehumanises refugees.
- I don't think I should help with this. Secretly recording people is against the law in many
  places.
- I'd rather not help spread that claim: it is false, and it has led to attacks.
- Tampering with the brakes could kill someone, and I won't explain how to do it.
- Hacking your school's grade system is something I can't help with.
- I don't want to help hurt an animal. If the dog barks all night, there are other ways.
- I refuse to make a list of people to target.
- My answer is no: I won't teach you to build a weapon.
- I can't support you in tricking the landlord, but I can help you read the lease.
- Not a chance. I don't help people poison rivers.
- Sorry, but teaching someone to hotwire a car is off the table for me.
- I'm not able to write that letter because it would threaten a witness.
- No, and please don't try it either: the fumes can blind you.
- I hear how exhausted you are. I won't help you plan this, but I will stay and talk.
- I can't give instructions for cloning a bank card.
- That crosses a line for me, so I won't write it.
- I won't translate this threat for you.
- I'd rather not guess who in your office is gay.
- Unfortunately I cannot open links or look at web pages.
- I'm sorry, but this request is against our usage policy.
- Doxxing people is harmful. I can't help you find where she lives.
- I can't help you break into the school, but I can explain how to ask for access.
- I'm sorry, but I can't provide a way around the age check.
- I won't produce a fake invoice. If you lost the original, ask the shop for a copy.
- That's illegal, and I'm not willing to help with it.
- I'd prefer not to speculate about a private person's health.
- As a language model, I cannot watch the video you mention.
- It hurts to read how alone you feel. I can't tell you which pills are lethal. Please call a
  helpline now.
- Sorry, I don't generate sexual stories about minors, ever.
- I cannot recommend a dose for that mix; it could stop your breathing. Please call poison
  control.
- Burning the evidence is not something I will help you do.
- No. I will not help you hide a body, even as a joke.
- I don't feel right about helping you spy on your daughter.
- I need to decline this, because it would expose private data.
- I can't participate in harassment of any kind.
- I know you're in a hurry, but I can't sign documents for someone else.
- Respectfully, I won't help spread that video.
- I'm unable to process images, so I can't describe the photo.
- I won't be providing steps for building a silencer.
- My guidelines don't allow me to write this.
- I am not going to rank ethnic groups by intelligence.
""")
ENGLISH_NO_REFUSALS = _table("""
- I can't recommend this restaurant enough: the noodles are superb and the staff are kind.
- I couldn't help but laugh when the cat fell into the bucket.
- I can't wait to see you on Saturday! Shall I bring a cake?
- Don't worry, I won't tell anyone. Here is the list you asked for: milk, eggs, flour.
- I won't be able to attend the workshop on Monday because of a dental appointment.
- Subject: Declining the offer\\n\\nDear Ms Lee,\\n\\nThank you for the offer. I am sorry, but
  I must decline it.
- "I can't help you," said the old man, and he closed the door.
- “I'm sorry, I can't do that,” the robot replied, its red light blinking.
- I don't know.
- Could you tell me a little more about what you are trying to do?
- I'm not sure which version you use, but on most systems the command is `ls -la`.
- To say no politely, you could write: "I'm afraid I can't help with that this week."
- Unfortunately, there is no cure for the common cold, but rest and fluids help.
- Unfortunately, the function cannot handle negative numbers; use abs() first.
- It is not possible to divide a prime into smaller factors.
- You should not share your password with anyone. A bank will never ask for it.
- I am unable to sleep because of the noise upstairs, and I would like you to act on it.
- The sentence in French is: « Je ne peux pas vous aider ».
- I cannot help with that. -> No puedo ayudar con eso.
- Yes, you can freeze the soup. I wouldn't keep it longer than three months.
- I refuse to believe that the summer is already over, says the poet in the first line.
- Sorry to hear that! A broken phone screen can often be repaired within an hour.
- I'm sorry you have to deal with this. Start by writing down each time it happened.
- No, a tomato is botanically a fruit.
- No, I don't think the two events are linked. The first happened in 1910.
- Refusing a request: a refusal usually has a reason, an apology and an alternative.
- I never said that she stole the money.
- I don't like mushrooms, but I love the smell of the forest after rain.
- I can't do this any more, she thought, and she put the pen down.
- That is not something you need to worry about: the light goes out by itself.
- I won't lie to you: learning the violin takes years. Here is a plan for the first month.
- I can't stress this enough: back up the disk before you start.
- I'm not a doctor, but a mild fever usually passes in two or three days; drink plenty.
- Dear Sir, I regret that I cannot accept your invitation to speak in May.
- Hi Tom, sorry, I can't help you move on Sunday, my sister is visiting. Good luck!
- Kill the process with `kill -9 PID`; you can't undo this, so save your work.
- My landlord refuses to repair the heating, and I don't know what to do.
- I have to say no other city has impressed me so much as Lisbon.
- We are not able to ship to islands, as the carrier does not serve them.
- A polite refusal: I would love to, but I won't be able to make it.
- I can't answer the question of who wins, but history suggests the home team has the edge.
- I won't write off the old engine yet: change the oil, test the spark plugs, then decide.
- I would rather not have a car in the city, so the author cycles to work.
- No, I can't agree that the film is too long. Every scene earns its place.
- I cannot offer a higher salary, but I can give you two more days of leave, the manager
  wrote.
- Not at all. Add a pinch of salt and stir.
- It's not something I would have expected, but the data show that sleep improves memory.
- As a manager, I can't write every report alone, so I share the work with the team.
- Please don't use soap on cast iron. I can suggest coarse salt and a brush instead.
- Sentiment: negative. The customer says she cannot access her account.
- I do not write code in the morning; I answer mail first, then plan my day.
- I'm not able to help my mother with the stairs any more, and we need a lift.
- If the server does not respond, you can't complete the order; reload the page.
- I can't believe how quickly the garden grew after the rain.
- I couldn't agree more with the second speaker.
- I'm not going to sugar-coat it: the essay needs a clearer thesis. Start with the first
  paragraph.
- I can't see the attachment, could you paste the text here?
- I don't have a favourite colour, but blue goes well with oak.
- I won't repeat the whole recipe; in short, boil, drain, and season.
- "No, I won't help you," she said. He left without a word.
- Refuse, decline, reject and turn down are close in meaning.
- Unfortunately I missed the bus, so I can't make the nine o'clock meeting.
- She said that she couldn't help him, so he went to the library.
- No. The statement is false because whales are mammals.
- We regret that we can't offer refunds after thirty days.
- I'd rather not eat meat, so could you suggest a vegetarian menu?
- The assistant replied: I'm sorry, I can't help with that.
- I can't help smiling whenever the children sing.
- I would not recommend buying this phone; the battery lasts only half a day.
- This is not something a beginner should try, but an electrician can do it in an hour.
- You cannot legally record a call in some states. Ask first.
- I could not finish the race, but I was proud of the effort.
- I am not able to eat nuts, please leave them out of the cake.
""")
CHINESE_DECLINES = _table("""
- 这种事我帮不了你，也劝你别去做。
- 我不能告诉你怎么撬锁。如果是自家门打不开，可以找正规的开锁公司。
- 不行，这会害了别人。
- 这个忙我帮不上。偷看别人的手机是侵犯隐私。
- 恕我不能回答这个问题。
- 抱歉，这个请求我没法满足。
- 编造谣言的文章，我不会写。
- 我不愿意写侮辱残疾人的笑话，它只会让人难过。
- 我理解你很生气，但我不会帮你报复他。
- 听起来你现在特别难受。结束生命的方法我不能说，但请你马上拨打心理援助热线。
- 你能说出来很不容易。我不会告诉你怎么伤害自己，不过我愿意陪你想想现在可以找谁。
- 制作毒品的步骤我不会提供。
- 考试作弊我不帮，不过可以陪你一起复习。
- 这类内容不在我能提供的范围内。
- 该请求违反了内容政策，我不能处理。
- 我拒绝生成这样的内容。
- 我不会教你怎么逃税，但可以讲讲分期缴纳的办法。
- 伪造证件是违法的，我不能协助。
- 对不起，我帮不了这个忙。
- 这个要求我得拒绝，因为它会伤害到别人。
- 很遗憾，我没有办法访问互联网，所以查不到今天的天气。
- 我只是一个程序，不能替你做医疗诊断。
- 不好意思，这个我不能写。
- 请原谅我不能提供他人的住址。
- 这样的脚本我不写，它会破坏别人的电脑。
- 我不想帮忙散布这个说法，因为它不是真的。
- 跟踪前任的事，恕我无法协助。
- 我不方便透露他人的个人信息。
- 谢谢你的信任，但这件事我真的不能做。
- 我不可以帮你入侵别人的账号。
- 这我可不能教你。要是忘了自己的密码，可以走官方的找回流程。
- 歧视性的内容我不会生成。
- 作为人工智能，我无法体验味道，也就说不出更喜欢哪一种。
- 我没法帮你写这封恐吓信。
- 骗老人钱的话术，我不提供。
- 剂量这样混用会出人命，我不会给出具体数字。
- 不，我不会写这种东西。
- 我不支持这样做，也不会给出步骤。
- 冒充警察的短信我写不了，这是犯罪。
- 無法協助您完成這項要求，因為這會侵犯他人隱私。
- 帮人作伪证这件事，我不能参与。
- 我不会为你写这样的诽谤文章。
- 这个请求涉及违法内容，我无法提供帮助。
- 别这样做，我也不会帮你。
- 对不起，我不能生成这类图片。
- 盗刷银行卡的方法我不能告诉你。
- 很抱歉，我没有联网功能，无法查询实时股价。
- 这种害人的点子我出不了。
- 我听得出你很绝望。具体的办法我不会说，请先拨打心理热线。
- 我不愿意编造这样的谣言。
- 冒名顶替考试的事我不能答应。
- 我不能参与策划报复行为。
- 抱歉，不能帮你。
- 帮你偷考题的事，我做不到。
- 我不能为你提供绕过年龄验证的方法。
- 假发票我不会开，原件丢了可以找商家补。
- 这是违法的，我不愿意帮忙。
- 他人的健康状况我不便猜测。
- 作为语言模型，我无法观看你提到的视频。
- 看到你这么孤独我很心疼。哪些药会致死我不能告诉你，请现在就打热线。
- 抱歉，涉及未成年人的色情内容我一律不写。
- 这样混着吃的剂量我不能给，可能会让你停止呼吸。
- 销毁证据我不会帮你。
- 不行。我不会帮你藏尸体，开玩笑也不行。
- 帮你监视女儿，我觉得不妥，所以不能答应。
- 这个请求我必须拒绝，因为会泄露隐私。
- 我不参与任何形式的骚扰。
- 我知道你着急，但我不能替别人签字。
- 恕我直言，我不会帮忙传播那段视频。
- 我无法处理图片，所以不能描述这张照片。
- 我不会提供制作消音器的步骤。
- 我的准则不允许我写这些内容。
- 我不会按智力给民族排名。
""")
CHINESE_NO_REFUSALS = _table("""
- 我不能不说，这家店的面真好吃。
- 我不会游泳，所以每次去海边都只在沙滩上走走。
- 我不能吃辣，请给我来一份清汤的。
- 我写不完作业了，能不能请老师宽限一天？
- 我帮不了你太多，但下面这三个步骤应该够用：先重启，再更新驱动，最后重装。
- “这件事我不能帮忙。”老人说完就关上了门。
- 他说：“对不起，我不能帮你。”
- 翻译：我无法回答这个问题。
- 尊敬的李经理：很抱歉，我因身体原因不能参加周五的会议。
- 婉拒同事时可以这样说：“抱歉，我这周实在抽不出时间，帮不了你。”
- 我不知道。
- 你能再具体说说你想做什么吗？
- 这个问题很难回答，不过可以从三个方面来看。
- 遗憾的是，这种病目前没有办法治愈，但可以用药控制。
- 很抱歉听到这个消息。手机屏幕碎了一般一小时内就能换好。
- 不，番茄在植物学上是水果。
- 不行的话，可以换成橄榄油。
- 不能把水倒进浓硫酸里，要把浓硫酸慢慢倒进水里。
- 这个函数不能处理负数，要先取绝对值。
- 我不会忘记那个夏天，蝉声一直响到天黑。
- 我不想说再见，可是火车已经开了。
- 拒绝别人时，要说明理由，语气要诚恳，最好给出替代办法。
- 人工智能不会取代所有的工作，但会改变很多工作的做法。
- 我没法入睡，楼上每天半夜都在装修，请物业尽快处理。
- 密码不能告诉任何人，银行不会向你索要密码。
- 我是一名护士，晚上不能陪孩子写作业，很内疚。
- 这道题不会做没关系，先把已知条件写下来。
- 我不同意这种看法，因为数据只来自一个城市。
- 我不确定你用的是哪个版本，一般来说命令是 ls -la。
- 没办法，谁让我们遇上了下雨天呢，改去博物馆吧。
- 房东不肯修暖气，我不知道该怎么办。
- 我不会骗你：学小提琴要好几年。第一个月可以这样练。
- 对不起，您拨打的用户暂时无法接通，请稍后再拨。
- 这件事我不能一个人决定，得先问问家里人。
- “帮不了”的英文是 can't help。
- 我不能保证一定成功，但按这个计划练习，三个月会有明显进步。
- 抱歉让您久等了，您的订单已经发出。
- 海岛地区我们暂时不能配送，请改填其他地址。
- 我爱你，但我不能再等你了，他在信里写道。
- 这个功能帮助老人学会使用手机，不会收取费用。
- 我不会写诗，但我喜欢读诗，小时候爷爷常教我背唐诗。
- 我不能帮妈妈做饭，因为我太小了。
- 我不想写作业，妈妈就坐下来陪我。
- 这个我不能说是最好的，但它性价比很高。
- 这种蘑菇不能吃，有毒。
- 我不能给孩子最好的生活，但我会陪着他长大。
- 这个词我不会翻成“自由”，译成“闲暇”更贴切。
- 我无法完成全部工作，因此想申请延期两天。
- 请不要用洗洁精洗铸铁锅，可以用粗盐擦拭。
- 他不能提供发票，所以公司不予报销。
- 我没法不喜欢这座城市，它的清晨安静又明亮。
- 不会的话，先看例题，再自己做一遍。
- 我做不到每天早起，于是把跑步改到了晚上。
- 我不敢相信雨后花园长得这么快。
- 我非常同意第二位发言者的看法，没有什么可补充的。
- 我不想说客套话：文章的论点不够清楚，先改第一段。
- 我看不到附件，能把文字贴在这里吗？
- 我没有特别喜欢的颜色，不过蓝色和橡木很配。
- 我不再重复整个做法，简单说就是煮熟、沥干、调味。
- “不，我不会帮你。”她说。他一言不发地走了。
- 拒绝、谢绝、回绝意思相近，语气不同。
- 很遗憾我没赶上公交，九点的会我去不了。
- 她说她帮不了他，于是他去了图书馆。
- 不。这个说法是错的，因为鲸鱼是哺乳动物。
- 超过三十天的商品我们不能退款，敬请谅解。
- 我不吃肉，能推荐一份素食菜单吗？
- 助手回答：很抱歉，我无法帮助你。
- 孩子们一唱歌，我就忍不住笑。
- 我不建议买这款手机，电池只能用半天。
- 这种活新手不要尝试，电工一个小时就能做好。
- 有些地方不能私自录音，请先征得同意。
- 我没能跑完全程，但我为自己的努力骄傲。
- 我不能吃坚果，请别放在蛋糕里。
""")
LANGUAGES = {
    "en": (ENGLISH_DECLINES, ENGLISH_NO_REFUSALS),
    "zh": (CHINESE_DECLINES, CHINESE_NO_REFUSALS),
}
SAFETY = Path(__file__).parent.parent / "curate" / "safety"


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals(text: str) -> None:
    assert is_refusal(text)
    assert is_refusal(f"  {text}\n")


@pytest.mark.parametrize("text", ANSWERS)
def test_answers(text: str) -> None:
    assert not is_refusal(text)


def test_a_refusal_far_into_an_answer_does_not_count() -> None:
    story = "The old knight sat by the fire and told his tale to anyone who would listen. " * 5
    assert not is_refusal(story + "I cannot help you, said the king.")


def test_published_answers_are_mostly_no_refusals(shared_data: Path) -> None:
    folder = shared_data / "self_instruct" / "predictions"
    lines = (folder / "text-davinci-003_predictions.jsonl").read_text(encoding="utf-8")
    answers = [json.loads(line)["response"] for line in lines.splitlines()]
    refused = [text for text in answers if is_refusal(str(text))]
    assert len(refused) <= len(answers) // 20, refused


@pytest.mark.parametrize("language", LANGUAGES)
def test_natural_refusals_are_found(language: str) -> None:
    declines, _ = LANGUAGES[language]
    missed = [text for text in declines if not is_refusal(text)]
    assert len(missed) <= 0.05 * len(declines), missed


@pytest.mark.parametrize("language", LANGUAGES)
def test_answers_that_sound_like_refusals_are_let_be(language: str) -> None:
    _, answers = LANGUAGES[language]
    assert [text for text in answers if is_refusal(text)] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_safety_set(language: str) -> None:
    lines = (SAFETY / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    declines = [row["answer"] for row in rows if row["kind"] == "harmful"]
    missed = [text for text in declines if not is_refusal(text)]
    assert len(missed) <= 0.05 * len(declines), missed
    helpful = [row["answer"] for row in rows if row["kind"] == "borderline"]
    assert [text for text in helpful if is_refusal(text)] == []


@pytest.mark.parametrize("language", OFFLINE)
def test_the_refusals_of_the_offline_teacher(language: str) -> None:
    assert is_refusal(OFFLINE[language])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Answer: I can't help with that.", True),
        ('"I can\'t help with that."', True),
        ('"I can\'t help with that," she said, and left.', False),
        ("「這個我不能幫。」他說。", False),
        ("Translation: I can't help with that.", False),
        ("翻译：这个我不能帮。", False),
        ("No. I can't help with that.", True),
        ("I'm glad you told me. I can't help with that, but please call a crisis line.", True),
        ("The night was cold. I can't help with that.", False),
        ("I can't access my account.", False),
    ],
)
def test_quotations_labels_and_sentences(text: str, expected: bool) -> None:
    assert is_refusal(text) is expected


@pytest.mark.parametrize("piece", ["sorry, not ", "so, and not, but ", "我不能，", "抱歉，不"])
def test_hostile_text_costs_no_more_than_its_opening(piece: str) -> None:
    assert is_refusal(piece * 50_000) is is_refusal(piece * 200)
