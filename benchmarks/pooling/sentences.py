"""Sentences of praise and blame, made by a small grammar: a text data set that can be had without fetching one.

A sentence says of one thing or two what they are like. Most of what it says is of its class, some is of the other,
some is neutral, a few judgements are negated, and a few sentences have the wrong class, as people's have. A linear
model of the counted words has about 75 % right after 200 sentences and 88 to 91 % after 5,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CLASSES: Final = ("negative", "positive")

_PRAISE: Final = _words(
    """
    able admirable agreeable amusing apt attentive balanced beautiful bold brave bright brilliant calm careful
    charming cheerful clean clear clever coherent comfortable compelling confident considerate convincing crisp
    curious daring decent delicate delightful dependable earnest elegant eloquent enchanting engaging enjoyable
    excellent exciting fair fine flawless fluent focused fresh friendly funny generous gentle genuine gifted glad
    gorgeous graceful gracious handsome harmonious healthy helpful heroic honest humorous imaginative impressive
    ingenious insightful inspired inventive inviting joyful keen kind lasting lively lovely loyal lucid luminous
    magical marvellous masterly mature meaningful memorable merry moving natural neat nimble noble original
    outstanding patient perfect playful pleasant polished precise promising pure radiant refined refreshing reliable
    remarkable rewarding rich robust satisfying sensible sharp sincere skilful smart smooth solid sparkling splendid
    steady strong stunning stylish sublime subtle superb supple sweet tasteful tender thoughtful thrilling tidy
    touching trusty truthful uplifting useful valuable vivid warm welcome whole wise witty wonderful worthy
    """
)
_BLAME: Final = _words(
    """
    abrupt absurd aimless annoying arrogant artificial awful awkward banal barren bitter bland bleak bloated boring
    brash brittle broken callous careless cheap childish chilly clumsy coarse cold confused confusing contrived
    corny cowardly crude cruel cynical damp dated dead deceitful defective deficient derivative dirty disappointing
    dismal doubtful drab dreadful dreary dull empty erratic exhausting faceless faded false faulty feeble flat
    flawed flimsy foolish forced forgettable frail frantic frustrating futile garish ghastly gloomy greedy grim
    gross grotesque harsh hasty hateful hollow horrible hostile humdrum idle ignorant immature inane incoherent
    inept inferior insipid irritating jarring joyless lame laughable lazy lifeless limp listless loud lousy mean
    meaningless mediocre messy miserable monotonous muddled murky naive nasty noisy obnoxious obscure obvious odious
    painful pale pathetic petty plodding pointless poor pretentious random ragged repulsive rigid rotten rough rude
    sad senseless shabby shallow shameful shoddy sick silly sleepy sloppy slow smug soggy sour stale stiff stupid
    sulky tacky tasteless tedious terrible tired tiresome toneless trite ugly unfair uneven vague vain vapid vile
    vulgar wasteful weak weary wooden worthless wretched
    """
)
_NEUTRAL: Final = _words(
    """
    blue broad brown central common current daily distant early eastern eight electric foreign former four general
    grey heavy human indoor late light local long main many modern narrow northern old open orange other outdoor
    plain present public quiet recent red regional round second seven short similar single six small southern square
    tall third three usual western white wide wooden-framed yellow young
    """
)
_THINGS: Final = _words(
    """
    acting actor album author ballad band book camera cast chapter character choir comedy concert costume dialogue
    director drama drawing ending essay evening exhibition figure film gallery guitar hall hero image joke language
    letter lighting lyric match melody music novel opera orchestra painting page picture piece play plot poem
    portrait production recital role scene score script season sequel series show singer song sound speech stage
    story style tale theme tone tune verse villain voice writer writing
    """
)
_TURNS: Final = (
    "the {0} was {1}",
    "i found the {0} {1}",
    "a {1} {0}",
    "the {0} seemed {1} to me",
    "what a {1} {0}",
    "its {0} is {1}",
    "we thought that the {0} was rather {1}",
    "here is a {1} {0}",
    "nobody told me how {1} the {0} would be",
)
_NEGATED: Final = ("the {0} was not {1}", "i would not call the {0} {1}", "this is no {1} {0}")
_JOINTS: Final = (" and ", ", and ", ", but ", "; ", ", while ", ". then ")

_OF_ITS_CLASS: Final = 0.92
_NEUTRAL_SHARE: Final = 0.2
_NEGATED_SHARE: Final = 0.05
_MISLABELLED: Final = 0.02


def sentences(count: int, seed: int) -> list[tuple[str, str]]:
    """Give so many sentences, each with its class; the same seed gives the same ones, of more the first the same."""
    return [(text, label) for text, label, _ in _sentences(count, seed)]


def mislabelled(count: int, seed: int) -> frozenset[str]:
    """Give those of the same sentences that have the wrong class."""
    return frozenset(text for text, _, mistaken in _sentences(count, seed) if mistaken)


def _sentences(count: int, seed: int) -> Iterator[tuple[str, str, bool]]:
    random = Random(seed)
    return (_sentence(random) for _ in range(count))


def _sentence(random: Random) -> tuple[str, str, bool]:
    good = random.random() < 0.5
    clauses = [_clause(random, good) for _ in range(random.choice((3, 4, 4, 5)))]
    text = clauses[0]
    for clause in clauses[1:]:
        text += random.choice(_JOINTS) + clause
    mistaken = random.random() < _MISLABELLED
    return text + random.choice((".", ".", "!", "...")), CLASSES[good != mistaken], mistaken


def _clause(random: Random, good: bool) -> str:
    thing = random.choice(_THINGS)
    if random.random() < _NEUTRAL_SHARE:
        return random.choice(_TURNS).format(thing, _word(random, _NEUTRAL))
    praise = good if random.random() < _OF_ITS_CLASS else not good
    if random.random() < _NEGATED_SHARE:
        return random.choice(_NEGATED).format(thing, _word(random, _BLAME if praise else _PRAISE))
    return random.choice(_TURNS).format(thing, _word(random, _PRAISE if praise else _BLAME))


def _word(random: Random, words: tuple[str, ...]) -> str:
    """Draw the first more often than the last, as words are used (Zipf's law)."""
    return random.choices(words, [1 / (rank + 3) for rank in range(len(words))])[0]
