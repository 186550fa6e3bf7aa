"""Encodings, odd files and addresses: read exactly, or refused in one sentence."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import InputError, data, tables

SAMPLES = {
    "Russian": "text,label\nОчень хороший товар,да\nДоставка была медленной,нет\n",
    "Czech": "text,label\nPříliš žluťoučký kůň úpěl ďábelské ódy,ano\nDoručení bylo pomalé,ne\n",
    "Polish": "text,label\nBardzo dobry produkt, żółć\ndostawa była wolna i spóźniona,źle\n",
    "Japanese": "text,label\nこの商品はとても良いです,良い\n配送が遅くて困りました,悪い\n",
    "Korean": "text,label\n이 제품은 정말 좋습니다,긍정\n배송이 너무 느려요,부정\n",
    "Taiwan": "text,label\n這個產品非常好用,正面\n配送太慢了，很失望,負面\n",
    "Greek": "text,label\nΠολύ καλό προϊόν,ναι\nΗ παράδοση ήταν αργή,όχι\n",
    "Turkish": "text,label\nÇok güzel bir ürün, teşekkürler,iyi\nKargo çok geç geldi ğışİ,kötü\n",
    "French": "text,label\ncafé à la crème,bon\nlivraison très lente,mauvais\n",
    "German": "text,label\nfür Äpfel,gut\nschön böse,schlecht\n",
    "Spanish": "text,label\n¿Qué tal el niño?,sí\nmuy rápido según él,no\n",
    "Portuguese": "text,label\nNão gostei das informações,não\nÓtimo avô,sim\n",
    "Swedish": "text,label\nJätteBra på många sätt,bra\ndålig smörgås,nej\n",
    "English": "text,label\nit’s “fine” at the café,good\nno — never £5,bad\n",
    "Chinese": "text,label\n这个产品很好用,正面\n配送太慢了，很失望,负面\n",
    "two Chinese": "text,label\n好,正\n坏,负\n",
}
SAID = {"utf-16": "utf-16", "gbk": "GBK (GB18030)", "gb18030": "GBK (GB18030)", "cp1252": "cp1252"}
READ = [(n, "cp1252") for n in ("French", "German", "Spanish", "Portuguese", "Swedish", "English")]
READ += [(n, e) for n in ("Chinese", "two Chinese") for e in ("gbk", "gb18030")]
READ += [(n, e) for n in SAMPLES for e in ("utf-8", "utf-8-sig", "utf-16")]
REFUSED = [("Russian", e) for e in ("koi8_r", "cp1251", "cp866", "iso8859_5")]
REFUSED += [("Czech", "cp1250"), ("Czech", "iso8859_2"), ("Polish", "cp1250")]
REFUSED += [("Japanese", "shift_jis"), ("Japanese", "euc_jp"), ("Korean", "euc_kr"), ("Taiwan", "big5")]
REFUSED += [("Greek", "cp1253"), ("Turkish", "cp1254"), ("French", "mac_roman"), ("French", "cp437")]


@pytest.mark.parametrize(("name", "encoding"), READ)
@pytest.mark.parametrize("times", [1, 30])
def test_an_encoding_is_read_exactly(name, encoding, times):
    content = SAMPLES[name] * times
    found, notes = tables.decode(content.encode(encoding))
    assert found == content
    assert notes == [f"the file was decoded as {SAID[encoding]}." for _ in notes] and bool(notes) == (encoding in SAID)


@pytest.mark.parametrize(("name", "encoding"), REFUSED)
@pytest.mark.parametrize("times", [1, 30])
def test_another_encoding_is_refused_and_never_read_as_nonsense(name, encoding, times):
    with pytest.raises(InputError, match="save it as UTF-8") as error:
        tables.decode((SAMPLES[name] * times).encode(encoding), "my.csv")
    assert "\n" not in str(error.value)


TEXTS = st.lists(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=12), min_size=2)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.sampled_from(",;\t|"), st.sampled_from([0, 1]))
def test_a_table_written_by_pandas_comes_back_or_is_refused(tmp_path_factory, texts, encoding, separator, quoting):
    frame = pd.DataFrame({"text": ["x1" + t for t in texts], "label": ["ab"[i % 2] for i in range(len(texts))]})
    path = tmp_path_factory.getbasetemp() / "made.csv"
    path.write_bytes(frame.to_csv(index=False, sep=separator, quoting=quoting).encode(encoding))
    try:
        found, _ = data.read_labelled(str(path))
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert found["text"].tolist() == frame["text"].tolist() and found["label"].tolist() == frame["label"].tolist()
