"""Texts that are on every machine: real prose, other languages, and strings that break programs."""

# ruff: noqa: RUF001
import re
from functools import cache
from pydoc_data.topics import topics


@cache
def topics_of_python() -> tuple[str, ...]:
    """The topics of Python's own help, whole: English texts of up to some 100,000 characters."""
    return tuple(topics[name].strip() for name in sorted(topics))


@cache
def paragraphs() -> tuple[str, ...]:
    """The paragraphs of those topics, with what repeats among them."""
    parts = (part.strip() for text in topics_of_python() for part in re.split(r"\n\s*\n", text))
    return tuple(part for part in parts if len(part) > 40)


FOREIGN = {
    "de": (
        "Die Straßenbahn fährt heute früher ab, weil über Nacht Schnee gefallen ist.",
        "Der Bäcker, dessen Öfen seit vier Uhr glühen, verkauft „frische“ Brötchen.",
        "Überraschend viele Gäste fragten nach Größe; Preis und Farbe waren nebensächlich.",
        "Donaudampfschifffahrtsgesellschaftskapitäne tragen Mützen.",
    ),
    "ja": (
        "昨日の夜から雪が降り続いているので、電車が遅れています。",
        "祖母の庭には、春になると白い花がたくさん咲きます。",
        "この図書館では、本を二週間まで借りることができる。",
        "ﾊﾝｶｸのカタカナと全角ＡＢＣが、混ざった「文」です。",
    ),
    "zh": (
        "昨天夜里下了一场大雪,公共汽车今天早上都晚点了。",
        "她把窗户打开,让春天的风吹进房间。",
        "图书馆的书可以借两个星期,也可以再续借一次。",
        "这家小店的老板每天四点起床,烤新鲜的面包。",
    ),
    "ru": (
        "Ночью выпал снег, и утром трамваи ходили с большим опозданием.",
        "Бабушка открыла окно, чтобы в комнату вошёл весенний воздух.",
        "Книги из этой библиотеки можно взять на две недели; потом — продлить.",
        "Пекарь, чьи печи горят с четырёх часов, продаёт «свежий» хлеб.",
    ),
    "ar": ("تأخر القطار هذا الصباح لأن الثلج لم يتوقف طوال الليل.",),
    "hi": ("रात भर बर्फ़ गिरने के कारण आज सुबह की रेलगाड़ी देर से आई।",),
    "th": ("เมื่อคืนหิมะตกหนักทำให้รถไฟเช้านี้มาสาย",),
    "he": ("הרכבת איחרה הבוקר משום שהשלג לא פסק כל הלילה.",),
    "ko": ("밤새 눈이 내려서 오늘 아침 기차가 늦었습니다.",),
}
"""Sentences by language."""

MESSY = (
    # White space and what looks like it
    "", " ", "\t\t", "\n", "\r\n\r\n", "\u00a0\u2003\u3000", "\x0b\x0c\x85\u2028\u2029",
    # Characters without a width, marks of order, and controls
    "\u200b", "a\u200bb\u200cc\u200dd\ufeffe", "\u2060\u00ad", "\u202eright to left\u202c end",
    "\u2066isolated\u2069", "\x01\x02\x03\x1f\x7f", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07",
    "\ufffd\ufffe\uffff", "\U0010ffff", "\ue000 private \U000f0000",
    # Numbers and what programs take for values
    "0", "-1", "1/0", "1e400", "0x1F", "1,000.00", "NaN", "Infinity", "-0", "007", "١٢٣", "½ ⅓ ²",
    "null", "None", "nil", "undefined", "true", "FALSE", "N/A", "#REF!", "=1+1", "+cmd", "@SUM(1)",
    # Code of other languages
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</title></style><svg onload=x>",
    "&lt;b&gt; &amp;amp; &#0; &nbsp", "<!-- comment", "]]>", "<?php echo 1 ?>", "{{ 7 * 7 }}",
    "{% raw %}", "${7*7}", "#{7*7}", "%s %d %n %x", "{} {0} {name!r:>10}", "%00", "\\x00 \\u0000",
    "'; DROP TABLE documents; --", "\" OR 1=1", "$(reboot)", "`id`", "| cat /etc/passwd", "&& true",
    "../../../etc/passwd", "C:\\CON\\..\\nul", "/dev/null", "~/.ssh/id_rsa", "file:///etc/hosts",
    "http://example.com/?q=a&b=%20#c", "a@b.example", "[link](javascript:alert(1))", "# heading",
    # Quotes and separators
    "'", '"', '"""', "''\"\"``", "\u201cquoted\u201d \u2018single\u2019 \u00abguillemets\u00bb",
    "a,b;c\td|e", 'say "no", then "yes"', "back\\slash", "trailing\\",
    # Letters with marks, forms and cases
    "e\u0301 \u00e9", "\u0041\u030a \u212b \u00c5", "s\u0335\u0321t\u034ea\u0316c\u0332k",
    "\u1e9e\u00df", "\u0130\u0131iI", "\ufb01\ufb02\ufb03", "\u01c5\u01c8", "\u2167\u217b",
    "ｗｉｄｅ　ｔｅｘｔ", "𝓬𝓾𝓻𝓵𝔂 𝔟𝔯𝔬𝔨𝔢𝔫", "ⓡⓘⓝⓖⓢ", "ʍou ɹǝʌo", "∀x∈ℝ: ⌈x⌉ ≥ x", "€¥₹₿ ©®™ †‡",
    "雪国の鷗と㐂び𠮷野家", "博物館內的漢語詞典", "꿻뷁 눈사람 쓩", "ﷺ ﷽",
    "עִבְרִית with العربية", "กี้ก็้้้้", "ஸ்ரீ க்ஷ", "\u1680ogham\u1680",
    # Pictures
    "😀", "👩‍👩‍👧‍👦", "🦊 🧗 🙋 🤷", "🇨🇭🇯🇵🇺🇳", "1️⃣ 2️⃣", "👋🏽🤚🏻🖖🏿", "☺︎ ☺️", "♔ ♞ ☯ ⚗",
    # Long ones
    "W" * 3000, "a " * 2000, ". " * 1500, "漢" * 1200, "👨‍👩‍👧" * 200, "e" + "\u0301" * 500,
)  # fmt: skip
"""Strings of the kinds that public lists of naughty strings are made of; none holds a NUL."""
