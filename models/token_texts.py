"""Records what `tokenizers` makes of token ids, for the tests of `runtime/text`.

    pip install tokenizers==0.22.2 && python models/token_texts.py runtime/text/src/token_texts.json

Small tokenizers of each kind of decoder, and random ids among which bytes spell characters, parts of them, and nothing.
"""

import json
import random
import re
import sys

import tokenizers

assert tokenizers.__version__ == "0.22.2"

WORDS = ["Hello", "world", "don", "n't", "a", "愛", "é", ".", "!", ",", "'s"]


def bytes_to_letters():
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in visible]
    return {b: chr(b) for b in visible} | {b: chr(0x100 + i) for i, b in enumerate(others)}


def made(vocabulary, decoder, kind="BPE"):
    model = {"type": "BPE", "vocab": {t: i for i, t in enumerate(vocabulary)}, "merges": [], "byte_fallback": False}
    if kind == "WordPiece":
        model = {"type": kind, "vocab": model["vocab"], "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9}
    end = {"id": len(vocabulary), "content": "<end>", "special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return json.dumps({"version": "1.0", "added_tokens": [end], "model": model, "decoder": decoder}, ensure_ascii=False)


LETTERS = bytes_to_letters()
SPACED = [w for word in WORDS for w in (word, "▁" + word)]
KINDS = {
    "letters": ([LETTERS[b] for b in range(256)] + ["".join(LETTERS[b] for b in w.encode()) for w in (" Hello", "愛a", "é!")], {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}, "BPE"),
    "fallback": (
        [f"<0x{b:02X}>" for b in range(256)] + ["▁"] + SPACED,
        {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "BPE",
    ),
    "metaspace": (SPACED, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}, "BPE"),
    "wordpiece": (["[UNK]", *WORDS, *("##" + w for w in WORDS)], {"type": "WordPiece", "prefix": "##", "cleanup": True}, "WordPiece"),
}


def ids(kind, count, chance):
    size = len(KINDS[kind][0])
    if kind not in ("letters", "fallback"):
        return [chance.randrange(size) for _ in range(count)]
    out = []
    while len(out) < count:
        way = chance.random()
        if way < 0.35:
            out += chance.choice(["é", "愛", "🎭", "a", " "]).encode()
        elif way < 0.5:
            out += chance.choice(["é", "愛", "🎭"]).encode()[: chance.randrange(1, 3)]
        elif way < 0.6:
            out.append(chance.choice([0x80, 0xFF, 0xC0, 0xE2, 0xF0]))
        else:
            out.append(chance.randrange(256, size))
    return out


def mixed(names):
    """Whether single bytes in a row are characters in part, which this project replaces in part."""
    for run in re.findall(r"(?:<0x..>)+", "".join(names)):
        raw = bytes(int(b, 16) for b in re.findall(r"<0x(..)>", run))
        text = raw.decode("utf-8", "replace")
        if "\ufffd" in text and text.strip("\ufffd"):
            return True
    return False


def main(file):
    chance = random.Random(5)
    table = {"tokenizers": {}, "cases": []}
    for kind, (vocabulary, decoder, model) in KINDS.items():
        source = made(vocabulary, decoder, model)
        table["tokenizers"][kind] = json.loads(source)
        tokenizer = tokenizers.Tokenizer.from_str(source)
        for _ in range(60):
            chosen = ids(kind, chance.randrange(2, 30), chance)
            names = [vocabulary[i] for i in chosen]
            text = tokenizer.decode(chosen, skip_special_tokens=True)
            table["cases"].append({"kind": kind, "ids": chosen, "text": text, "mixed": mixed(names)})
    with open(file, "w") as out:
        json.dump(table, out, ensure_ascii=False)
        out.write("\n")
    print(len(table["cases"]), "cases,", sum(c["mixed"] for c in table["cases"]), "mixed")


if __name__ == "__main__":
    main(sys.argv[1])
