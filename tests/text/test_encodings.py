"""Encodings: each is recognised, named with both ways out, and trains and scores once it is said."""

import codecs
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import charlm
from charlm.config import load_config
from charlm.errors import ConfigError, CorpusError, InputError
from charlm.text.detection import detect, detect_wide
from charlm.text.reading import read_text
from commands import answer, run, scores

CHINESE = """\
今天下午我和妈妈一起去公园散步，天气很好，湖边有很多人在画画。
他说这本书是去年在北京买的，里面讲的是一个老渔夫的故事。
请问从这里到火车站怎么走？坐公共汽车大概要二十分钟。
经济发展的同时，我们也应该注意保护环境，这是每个人的责任。
老师让学生们把作业写完以后再去操场上玩。
小明的爸爸是医生，每天早上七点就出门上班了。
"""
TRADITIONAL = """\
今天下午我和媽媽一起去公園散步，天氣很好，湖邊有很多人在畫畫。
他說這本書是去年在臺北買的，裡面講的是一個老漁夫的故事。
請問從這裡到火車站怎麼走？坐公車大概要二十分鐘。
經濟發展的同時，我們也應該注意保護環境，這是每個人的責任。
老師讓學生們把作業寫完以後再去操場上玩。
小明的爸爸是醫生，每天早上七點就出門上班了。
"""
JAPANESE = """\
今日は天気がいいので、母と一緒に公園へ散歩に行きました。
駅まで歩いて十分くらいかかりますが、バスもあります。
この本は去年東京で買ったもので、年老いた漁師の物語です。
先生は学生たちに宿題を終わらせてから遊ぶように言いました。
コンピューターの電源を入れて、新しいファイルを作成してください。
吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。
"""
KOREAN = """\
오늘은 날씨가 좋아서 어머니와 함께 공원으로 산책을 갔습니다.
역까지 걸어서 십 분쯤 걸리지만 버스도 있습니다.
이 책은 작년에 서울에서 산 것인데 늙은 어부의 이야기입니다.
선생님은 학생들에게 숙제를 끝내고 나서 놀라고 말씀하셨습니다.
컴퓨터를 켜고 새 파일을 만들어 주세요.
우리는 환경을 보호해야 하는 책임이 있다고 생각한다.
"""
RUSSIAN = """\
Сегодня хорошая погода, и мы с мамой пошли гулять в парк.
До вокзала можно дойти пешком за десять минут, но есть и автобус.
Эту книгу я купил в прошлом году в Москве, она о старом рыбаке.
Учитель сказал ученикам, что играть можно после уроков.
Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.
Мой дядя самых честных правил, когда не в шутку занемог.
"""
UKRAINIAN = """\
Сьогодні гарна погода, і ми з мамою пішли гуляти до парку.
До вокзалу можна дійти пішки за десять хвилин, але є й автобус.
Цю книжку я купив торік у Києві, вона про старого рибалку.
"""
FRENCH = """\
Aujourd'hui il fait beau, et nous sommes allés nous promener dans le parc avec ma mère.
La gare est à dix minutes à pied, mais il y a aussi un autobus très fréquent.
J'ai acheté ce livre à Paris l'année dernière, c'est l'histoire d'un vieux pêcheur.
Le maître a demandé aux élèves de finir leurs devoirs avant de jouer dans la forêt.
Ça coûte 20 € ; où êtes-vous né ? « Déjà », répondit-elle.
Un œuf, des œufs, et le cœur léger.
"""
GERMAN = """\
Heute ist schönes Wetter, und wir gehen mit der Mutter im Park spazieren.
Bis zum Bahnhof sind es zehn Minuten zu Fuß, aber es gibt auch einen Bus.
Das Buch habe ich voriges Jahr in München gekauft, es erzählt von einem alten Fischer.
Der Lehrer sagte den Schülern, sie müssten zuerst die Aufgaben fertig machen.
„Schön“, sagte er – „das können wir übermorgen erledigen“.
Die Straße führt über die Brücke nach Köln.
"""
POLISH = """\
Dzisiaj jest ładna pogoda, więc poszliśmy z mamą na spacer do parku.
Do dworca można dojść pieszo w dziesięć minut, ale jeździ też autobus.
Tę książkę kupiłem w zeszłym roku w Krakowie, opowiada o starym rybaku.
Nauczyciel powiedział uczniom, żeby najpierw skończyli zadania.
Litwo! Ojczyzno moja! ty jesteś jak zdrowie;
Źdźbło trawy, gęś i żółw.
"""
GREEK = """\
Σήμερα ο καιρός είναι καλός και πήγαμε με τη μητέρα μου στο πάρκο.
Μέχρι τον σταθμό είναι δέκα λεπτά με τα πόδια, αλλά υπάρχει και λεωφορείο.
Το βιβλίο το αγόρασα πέρσι στην Αθήνα και μιλάει για έναν γέρο ψαρά.
"""
SPANISH = """\
Esta tarde fui con mi madre a pasear por el jardín; hacía muy buen tiempo.
¿Cómo se llega a la estación? Está a diez minutos a pie, pero también hay autobús.
El año pasado compré este libro en Málaga, cuenta la historia de un pescador.
"""
CZECH = """\
Dnes odpoledne jsme šli s maminkou na procházku do parku, počasí bylo velmi pěkné.
Na nádraží dojdete pěšky za deset minut, ale jezdí tam také autobus.
Tu knihu jsem koupil loni v Praze, vypráví o starém rybáři.
Příliš žluťoučký kůň úpěl ďábelské ódy.
"""
TURKISH = """\
Bugün öğleden sonra annemle parka yürüyüşe çıktık, hava çok güzeldi.
İstasyona yürüyerek on dakikada gidebilirsiniz, otobüs de var.
Bu kitabı geçen yıl İstanbul'da aldım, yaşlı bir balıkçıyı anlatıyor.
"""
HEBREW = """\
היום אחר הצהריים הלכתי עם אמא לטייל בפארק, מזג האוויר היה נעים מאוד.
אפשר להגיע לתחנת הרכבת ברגל בעשר דקות, אבל יש גם אוטובוס.
את הספר הזה קניתי בשנה שעברה בירושלים, והוא מספר על דייג זקן.
"""
ARABIC = """\
ذهبت بعد ظهر اليوم مع أمي إلى الحديقة للتنزه، وكان الطقس جميلا جدا.
يمكنك الوصول إلى المحطة سيرا على الأقدام في عشر دقائق، ولكن هناك حافلة أيضا.
اشتريت هذا الكتاب في العام الماضي من القاهرة، وهو يحكي عن صياد عجوز.
"""
THAI = """\
บ่ายวันนี้ฉันไปเดินเล่นที่สวนสาธารณะกับแม่ อากาศดีมาก
จากที่นี่เดินไปสถานีรถไฟใช้เวลาประมาณสิบนาที แต่มีรถเมล์ด้วย
หนังสือเล่มนี้ซื้อเมื่อปีที่แล้วที่กรุงเทพ เล่าเรื่องชาวประมงแก่คนหนึ่ง
"""
# The encoding of a text, the text, and the name that it is to be recognised by: of siblings the widest.
TEXTS = [
    ("gb18030", CHINESE, "gb18030"), ("gbk", CHINESE, "gb18030"), ("gb2312", CHINESE, "gb18030"),
    ("big5", TRADITIONAL, "cp950"), ("cp950", TRADITIONAL, "cp950"),
    ("shift_jis", JAPANESE, "cp932"), ("cp932", JAPANESE, "cp932"), ("euc_jp", JAPANESE, "euc-jp"),
    ("euc_kr", KOREAN, "cp949"), ("cp949", KOREAN, "cp949"),
    ("koi8_r", RUSSIAN, "koi8-r"), ("cp1251", RUSSIAN, "cp1251"), ("cp866", RUSSIAN, "cp866"),
    ("cp1251", UKRAINIAN, "cp1251"), ("koi8_u", UKRAINIAN, "koi8-u"),
    ("cp1252", FRENCH, "cp1252"), ("cp1252", GERMAN, "cp1252"),
    ("cp1250", POLISH, "cp1250"), ("iso8859_2", POLISH, "iso-8859-2"), ("cp1253", GREEK, "cp1253"),
    ("iso8859_5", RUSSIAN, "iso-8859-5"), ("mac_cyrillic", RUSSIAN, "mac-cyrillic"), ("cp850", SPANISH, "cp850"),
    ("mac_roman", FRENCH, "macintosh"), ("iso8859_7", GREEK, "cp1253"),
    ("cp1250", CZECH, "cp1250"), ("iso8859_2", CZECH, "iso-8859-2"), ("cp852", CZECH, "cp852"),
    ("cp852", POLISH, "cp852"), ("cp1254", TURKISH, "cp1254"), ("cp1255", HEBREW, "cp1255"),
    ("iso8859_8", HEBREW, "cp1255"), ("cp1256", ARABIC, "cp1256"), ("iso8859_6", ARABIC, "iso-8859-6"),
    ("tis_620", THAI, "tis-620"), ("cp874", THAI, "tis-620"),
    ("utf-16", RUSSIAN, "utf-16"), ("utf-16le", CHINESE, "utf-16le"), ("utf-16be", FRENCH, "utf-16be"),
    ("utf-32", CHINESE, "utf-32"), ("utf-32le", KOREAN, "utf-32le"), ("utf-32be", JAPANESE, "utf-32be"),
]  # fmt: skip
IDS = [f"{encoding}-{expected}-{i}" for i, (encoding, _, expected) in enumerate(TEXTS)]
each_text = pytest.mark.parametrize(("encoding", "text", "expected"), TEXTS, ids=IDS)
# One of each kind that the issue names, trained and scored.
TRAINED = ["gb18030", "big5", "shift_jis", "euc_kr", "koi8_r", "cp1251", "cp1252", "utf-16", "utf-16le"]


def iconv_knows(name: str) -> bool:
    try:
        return subprocess.run(["iconv", "-f", name, "-t", "utf-8"], input=b"", check=False).returncode == 0
    except FileNotFoundError:
        pytest.skip("iconv is not installed")


@each_text
def test_an_encoding_is_recognised_surely_in_a_few_lines(encoding: str, text: str, expected: str) -> None:
    guess = detect(text.encode(encoding))
    assert guess is not None
    assert (guess.encoding, codecs.lookup(guess.encoding) is not None) == (expected, True)
    assert guess.sureness in ("almost certainly", "probably")
    assert guess.reads.strip("…")[:20] in text


@each_text
def test_no_line_of_a_text_is_surely_another_encoding(encoding: str, text: str, expected: str) -> None:
    siblings = {"iso-8859-2": "cp1250", "koi8-u": "koi8-r"}
    wrong = 0
    for line in text.splitlines():
        guess = detect(line.encode(encoding))
        if guess and guess.encoding not in (expected, siblings.get(expected)):
            wrong += 1
            assert guess.sureness != "almost certainly", line
    assert wrong <= 1 or encoding.startswith("utf-16")  # a line has no ends of lines to know it by


@pytest.mark.parametrize("name", sorted({expected for _, _, expected in TEXTS}))
def test_a_name_that_is_proposed_is_one_that_iconv_knows(name: str) -> None:
    assert iconv_knows(name)


def test_a_mark_in_the_midst_of_a_text_is_no_mark() -> None:
    assert detect(b"\xff\xfea\0").encoding == "utf-16"  # type: ignore[union-attr]
    guess = detect(b"\xff\xfea\xf6", begins=False)
    assert guess is None or guess.encoding != "utf-16"


WIDE = ["utf-16le", "utf-16be", "utf-32le", "utf-32be"]


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize(
    "text", [CHINESE, JAPANESE, KOREAN, RUSSIAN, HEBREW, FRENCH, THAI], ids=lambda text: text[:5]
)
def test_wide_characters_without_a_mark_are_known_with_and_without_blanks_and_ends_of_lines(
    encoding: str, text: str
) -> None:
    line = text.split("\n")[0] + " 2026"
    for given in (line, line.replace(" ", ""), "  " + line, f"{line}\r\n{line}", "\n".join(line.split()) + "\n"):
        guess = detect_wide(given.encode(encoding))
        assert guess is not None, given
        assert guess.encoding == encoding, given


@pytest.mark.parametrize("word", ["words", "worst", "SONNY", "naïve", "Straße"])
@pytest.mark.parametrize("encoding", WIDE)
def test_a_word_of_wide_characters_is_not_read_with_its_bytes_exchanged(encoding: str, word: str) -> None:
    guess = detect_wide(word.encode(encoding))
    assert guess is not None
    assert guess.encoding == encoding


def test_numbers_are_no_wide_characters() -> None:
    rng = np.random.default_rng(1)
    for dtype in ("<i2", ">i2", "<i4", ">i4", "<f4", "<f8"):
        assert detect_wide(rng.integers(0, 300, 500).astype(dtype).tobytes()) is None
        assert detect_wide((1000 * rng.standard_normal(500)).astype(dtype).tobytes()) is None


@pytest.mark.parametrize(("encoding", "text"), [("iso-2022-jp", JAPANESE), ("iso-2022-kr", KOREAN)])
def test_what_escapes_make_of_ascii_is_not_taken_for_text(encoding: str, text: str, tmp_path: Path) -> None:
    path = save(tmp_path / "text.txt", text.encode(encoding))
    with pytest.raises(
        CorpusError, match=rf"an escape at offset \d+; it is almost certainly {encoding}: a line then"
    ):
        read_text([str(path)])
    assert read_text([str(path)], encoding="auto") == read_text([str(path)], encoding=encoding) == text
    colours = save(tmp_path / "colours.txt", b"\x1b[31mred\x1b[0m and \x1b$ plain\n")
    assert "red" in read_text([str(colours)])


def test_what_no_text_could_be_is_not_guessed() -> None:
    assert detect(b"\0\xff\xfe\x01" * 100) is None


def test_of_ascii_alone_something_is_said() -> None:
    assert detect(b"plain") is not None


def save(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("encoding", TRAINED)
def test_a_text_in_another_encoding_is_refused_with_the_way_out_that_then_trains_and_scores(
    encoding: str, tmp_path: Path
) -> None:
    text, expected = next((text, expected) for name, text, expected in TEXTS if name == encoding)
    path = save(tmp_path / "text.txt", (text * 8).encode(encoding))
    train = ["train", "--corpus", path, "--budget", "2 steps", "--set", "model.hidden_size=4", "--quiet"]
    refused = run(*train, "--out", tmp_path / "run")
    assert refused.exit_code == 2
    first = next(i for i, char in enumerate(text) if char > "\x7f")
    line = text[max(0, first - 5) : first + 10]
    for part in (str(path), "not UTF-8: ", f" {expected}", line, f"iconv -f {expected} -t utf-8 {path}"):
        assert part in refused.stderr
    assert f"`--set corpus.encoding={expected}`" in refused.stderr
    answer(*train, "--out", tmp_path / "run", "--set", f"corpus.encoding={expected}")
    in_utf8 = save(tmp_path / "utf8.txt", (text * 8).encode())
    train[2] = in_utf8
    answer(*train, "--out", tmp_path / "same")
    model, same = tmp_path / "run" / "model.safetensors", tmp_path / "same" / "model.safetensors"
    assert model.read_bytes() == same.read_bytes()
    for command in (["score", tmp_path / "run", "--file"], ["eval", tmp_path / "run"]):
        expected_answer = answer(*command, in_utf8)
        assert answer(*command, path, "--encoding", encoding) == expected_answer
        auto = run(*command, path, "--encoding", "auto")
        assert auto.stdout == expected_answer
        assert f"{path}: decoded as {expected}" in auto.stderr
        refused = run(*command, path)
        assert (refused.exit_code, f"`--encoding {expected}`" in refused.stderr) == (2, True)
    assert answer("eval", tmp_path / "run")  # its own text, again in this encoding


def test_auto_says_what_it_found_and_is_stored_as_it_was_asked(tmp_path: Path) -> None:
    path = save(tmp_path / "text.txt", (RUSSIAN * 8).encode("koi8-r"))
    train = ["train", "--corpus", path, "--budget", "2 steps", "--set", "model.hidden_size=4"]
    result = run(*train, "--set", "corpus.encoding=auto", "--out", tmp_path / "run")
    assert "decoded as koi8-r (Cyrillic), almost certainly right" in "".join(result.stderr.split("\n"))
    assert load_config(tmp_path / "run" / "config.yaml").corpus.encoding == "auto"
    assert answer("eval", tmp_path / "run", "--format", "json")


def test_auto_takes_each_file_of_a_folder_as_what_it_is(tmp_path: Path) -> None:
    (folder := tmp_path / "texts").mkdir()
    for name, text, encoding in (("a", CHINESE, "gb18030"), ("b", RUSSIAN, "cp1251"), ("c", FRENCH, "utf-8")):
        save(folder / name, text.encode(encoding))
    notes: list[str] = []
    assert read_text([str(folder)], encoding="auto", note=notes.append) == CHINESE + RUSSIAN + FRENCH
    assert [note.split(" ")[3] for note in notes] == ["gb18030", "cp1251"]


def test_a_text_that_is_utf_8_is_not_taken_for_another_encoding_that_was_said(tmp_path: Path) -> None:
    path = save(tmp_path / "text.txt", RUSSIAN.encode())
    with pytest.raises(CorpusError, match="this file is UTF-8, not cp1252"):
        read_text([str(path)], encoding="cp1252")
    assert read_text([str(path)], encoding="UTF8") == RUSSIAN


def test_a_damaged_place_in_utf_8_is_not_called_another_encoding(tmp_path: Path) -> None:
    path = save(tmp_path / "text.txt", RUSSIAN.encode() + b"caf\xe9\n" + RUSSIAN.encode())
    for encoding in ("utf-8", "auto"):
        with pytest.raises(CorpusError, match=r"line 7\); most of it is UTF-8: it is damaged here"):
            read_text([str(path)], encoding=encoding)


@pytest.mark.parametrize("chunk", [1, 3, 7, 1 << 20])
@each_text
def test_characters_and_ends_of_lines_may_be_cut_anywhere(
    encoding: str, text: str, expected: str, chunk: int, tmp_path: Path
) -> None:
    path = save(tmp_path / "text.txt", text.replace("\n", "\r\n").encode(encoding))
    assert read_text([str(path)], encoding=encoding, read_bytes=chunk) == text
    with pytest.raises(
        CorpusError, match=r"not UTF-8: .* at offset \d+ \(line 1\)|not UTF-8: a NUL byte at offset"
    ):
        read_text([str(path)])


def test_a_fault_in_a_named_encoding_is_placed(tmp_path: Path) -> None:
    content = "你好\n世界".encode("gb18030") + b"\xff\n"
    for chunk in (1, 2, 1000):
        with pytest.raises(CorpusError, match=r"not gb18030: byte 0xff at offset 9 \(line 2\)"):
            read_text([str(save(tmp_path / "a", content))], encoding="gb18030", read_bytes=chunk)


@pytest.mark.parametrize("name", ["gb9999", "hex", "rot13", "zip", "../x", "", "idna", "a" * 100])
def test_a_name_that_is_no_encoding_is_refused(name: str, tiny_run: Path, tiny_corpus: Path) -> None:
    with pytest.raises(ConfigError, match=r"corpus\.encoding"):
        load_config({"corpus": {"path": "x", "encoding": name}})
    for command in ("score", "eval"):
        option = ["--file", tiny_corpus] if command == "score" else [tiny_corpus]
        assert "is not an encoding that Python knows" in run(command, tiny_run, *option, "--encoding", name).stderr
    with pytest.raises(InputError, match="not an encoding"):
        charlm.load(tiny_run).evaluate(tiny_corpus, encoding=name)


def test_pairs_rerank_and_prompts_take_an_encoding(tiny_run: Path, tmp_path: Path) -> None:
    def same(*args: Any) -> None:
        assert answer(*args, in_latin1, "--encoding", "cp1252") == answer(*args, in_utf8)
        assert "`--encoding cp1252`" in run(*args, in_latin1).stderr

    for args, text in (
        (["pairs", tiny_run, "--format", "json"], "the boat\tthe baot\tlettres échangées\n"),
        (["rerank", tiny_run], "0 ||| the boat ||| é= 1 ||| 0\n"),
    ):
        in_utf8 = save(tmp_path / "utf8", text.encode())
        in_latin1 = save(tmp_path / "cp1252", text.encode("cp1252"))
        same(*args)
    path = save(tmp_path / "prompt", "the boat\r\nthe".encode("utf-16"))
    text = answer("sample", tiny_run, "--prompt-file", path, "--encoding", "utf-16", "--length", 1)
    assert text.startswith("the boat\nthe")


@pytest.mark.parametrize("command", ["pairs", "rerank", "sample"])
def test_a_carriage_return_ends_a_line_everywhere(command: str, tiny_run: Path, tmp_path: Path) -> None:
    text, arguments = {
        "pairs": ("the boat\ttheboat\nbread\tbraed\n", []),
        "rerank": ("0 ||| the boat ||| f= 1 ||| 0\n0 ||| bread ||| f= 1 ||| 0\n", []),
        "sample": ("the boat\nhas\n", ["--prompt-file"]),
    }[command]
    ends = {}
    for end in ("\n", "\r", "\r\n"):
        path = save(tmp_path / "text", text.replace("\n", end).encode())
        ends[end] = answer(command, tiny_run, *arguments, path)
    assert len(set(ends.values())) == 1


def test_a_file_of_carriage_returns_is_scored_line_by_line(tiny_run: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "old-mac.txt", b"the boat\rbread\ra book\r")
    assert [row["text"] for row in scores(tiny_run, "--file", path)] == ["the boat", "bread", "a book"]
