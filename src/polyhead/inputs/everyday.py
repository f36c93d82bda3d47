"""Short plain sentences of our own, in English and Chinese, each the other's translation: what a model reads when
nobody gives a text."""

ENGLISH = (
    "The small boat crossed the river before noon.",
    "My sister keeps three books on the table, and she reads them at night.",
    "When the rain stopped, the children ran into the garden.",
    "The teacher asked a simple question, but nobody answered.",
    "He put the old lamp near the window.",
    "A train from the north arrives every morning at eight.",
    "The cook washed the rice, cut the onions and lit the stove.",
    "She said that the shop would open again in spring.",
    "Two birds built a nest under the roof of our house.",
    "If you turn left at the bridge, you will see the market.",
    "The letter that my uncle wrote is still in the drawer.",
    "Fresh bread smells good, so people stand in line for it.",
    "The mountain was white, and the lake below it was green.",
    "Nobody knew why the clock in the hall had stopped.",
    "I drink tea in the morning and water in the evening.",
    "The young doctor spoke slowly, because the patient was tired.",
)
CHINESE = (
    "小船在中午之前过了河。",
    "我姐姐在桌上放着三本书，她晚上读。",
    "雨停了，孩子们跑进了花园。",
    "老师问了一个简单的问题，但是没有人回答。",
    "他把旧灯放在窗户旁边。",
    "每天早上八点，有一列火车从北方来。",
    "厨师洗了米，切了洋葱，点着了炉子。",
    "她说商店春天会再开门。",
    "两只鸟在我们家的屋檐下做了窝。",
    "如果你在桥边向左走，就会看到市场。",
    "我叔叔写的那封信还在抽屉里。",
    "新鲜的面包很香，所以人们排队去买。",
    "山是白的，山下的湖是绿的。",
    "没有人知道大厅里的钟为什么停了。",
    "我早上喝茶，晚上喝水。",
    "年轻的医生说得很慢，因为病人累了。",
)
OURS = {"en": ENGLISH, "zh": CHINESE}
