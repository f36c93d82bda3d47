"""Languages by their English names, for people who do not think in codes (ISO 639)."""

from __future__ import annotations

NAMED = """
af Afrikaans|am Amharic|ar Arabic|as Assamese|az Azerbaijani|ba Bashkir|be Belarusian|bg Bulgarian|bn Bengali
bo Tibetan|br Breton|bs Bosnian|ca Catalan|cs Czech|cy Welsh|da Danish|de German|el Greek|en English|es Spanish
et Estonian|eu Basque|fa Persian|fi Finnish|fo Faroese|fr French|gl Galician|gu Gujarati|ha Hausa|haw Hawaiian
he Hebrew|hi Hindi|hr Croatian|ht Haitian Creole|hu Hungarian|hy Armenian|id Indonesian|is Icelandic|it Italian
ja Japanese|jw Javanese|ka Georgian|kk Kazakh|km Khmer|kn Kannada|ko Korean|la Latin|lb Luxembourgish|ln Lingala
lo Lao|lt Lithuanian|lv Latvian|mg Malagasy|mi Maori|mk Macedonian|ml Malayalam|mn Mongolian|mr Marathi|ms Malay
mt Maltese|my Burmese|ne Nepali|nl Dutch|nn Nynorsk|no Norwegian|oc Occitan|pa Punjabi|pl Polish|ps Pashto
pt Portuguese|ro Romanian|ru Russian|sa Sanskrit|sd Sindhi|si Sinhala|sk Slovak|sl Slovenian|sn Shona|so Somali
sq Albanian|sr Serbian|su Sundanese|sv Swedish|sw Swahili|ta Tamil|te Telugu|tg Tajik|th Thai|tk Turkmen|tl Tagalog
tr Turkish|tt Tatar|uk Ukrainian|ur Urdu|uz Uzbek|vi Vietnamese|yi Yiddish|yo Yoruba|yue Cantonese|zh Chinese
"""
ALIASES = {"mandarin": "zh", "castilian": "es", "flemish": "nl", "farsi": "fa", "jv": "jw", "iw": "he"}
PAIRS = NAMED.strip().replace("\n", "|").split("|")
CODES = {name.lower(): code for code, _, name in (pair.partition(" ") for pair in PAIRS)}

SPACELESS = ("zh", "ja", "th", "lo", "my", "yue")  # their words are written without spaces between them


def code_of(language: str) -> str:
    """The code of a language: of its name, or what was given, in small letters."""
    asked = language.strip().lower()
    asked = asked.removeprefix("<|").removesuffix("|>")
    return CODES.get(asked) or ALIASES.get(asked, asked)
