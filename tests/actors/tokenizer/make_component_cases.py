"""Writes component_cases.json: what Hugging Face tokenizers makes of single components and of changed demo tokenizers.

Needs the Python package tokenizers; the file says which version it was made with. 0.22 and later differ in one point:
they decode an added token with "normalized": true as its normalized spelling, and then do not know it as special.
usage: make_component_cases.py > component_cases.json
"""
import json
import pathlib
import random
import sys

import tokenizers
from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).resolve().parents[3]

TEXTS = [
    "", " ", "a", " a", "a ", "  a  b ", "Hello, World! It's 2024.", "don't WE'LL I'm", "tabs\tand\nnew\r\nlines\n\n  x",
    "3.14159 1234567 ①②Ⅷ ½ ٣", "ünïcödé ÀÉÎ ß ŉ İ Σσς", "e\u0301 \u1e9b\u0323 ﬁ ² Å", "東京都 北京 한국어 ไทย हिन्दी",
    "🎉👩\u200d👩\u200d👧 flag🇵🇱", "a_b-c+d=e (f) [g] {h} <i> «j» …", "▁already ▁▁marked", "<tok> x<tok>y <lft> z <rgt>  w",
    "ax<word>b <word> <word>, _<word>", "CamelCase camelCASE", "\u00a0nbsp\u2003em\u3000wide\u180emongol\u200bzero",
    "x<both>  <both>y", "Norm NORM norm", "the end.", "   leading", "trailing   ", "a\u0300\u0301b", "ὈΔΥΣΣΕΎΣ", "\x00\x01\x7f",
    "\u0661\u0662\u0663 \u0967", "😀😀😀 aaa 111 ---", "\n", "\n\n \n", "<s>inner</s> <unk>", "<|im_start|>user\nhi<|im_end|>",
]

NORMALIZERS = [
    {"type": "NFC"}, {"type": "NFD"}, {"type": "NFKC"}, {"type": "NFKD"}, {"type": "Lowercase"}, {"type": "StripAccents"},
    {"type": "Strip", "strip_left": True, "strip_right": False}, {"type": "Strip", "strip_left": False, "strip_right": True},
    {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}, {"type": "Replace", "pattern": {"Regex": "\\s+|\\d"}, "content": "<>"},
    {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]},
    {"type": "Sequence", "normalizers": []}, {"type": "ByteLevel"},
]

LLAMA3 = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
O200K = (
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
DEEPSEEK = (
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)


def split(pattern, behavior, invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


PRE_TOKENIZERS = [
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False},
    *[split({"Regex": p}, b, i) for p, b, i in [(LLAMA3, "Isolated", False), (LLAMA3, "Removed", True), (O200K, "Isolated", False)]],
    {"type": "Sequence", "pretokenizers": [split({"Regex": "\\p{N}{1,3}"}, "Isolated"), split({"Regex": "[一-龥\u3040-ゟ゠-ヿ]+"}, "Isolated"),
                                           split({"Regex": DEEPSEEK}, "Isolated"),
                                           {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
    *[split({"Regex": "[aeiou\\s]+"}, b, i) for b in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous") for i in (False, True)],
    *[split({"String": " "}, b) for b in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")],
    split({"String": "."}, "Isolated"), split({"Regex": "x*"}, "Isolated"), split({"Regex": "^\\s|\\h+$"}, "Isolated"),
    split({"Regex": "\\W"}, "Isolated"), split({"Regex": "(?<=\\p{L})\\d|\\S(?=\\s)"}, "Isolated"),
    {"type": "Digits", "individual_digits": True}, {"type": "Digits", "individual_digits": False},
    {"type": "Whitespace"}, {"type": "WhitespaceSplit"}, {"type": "CharDelimiterSplit", "delimiter": "a"},
    *[{"type": "Punctuation", "behavior": b} for b in ("Isolated", "Removed", "Contiguous", "MergedWithNext")],
    *[{"type": "Metaspace", "replacement": "▁", "prepend_scheme": s, "split": w} for s in ("always", "first", "never") for w in (True, False)],
    {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}]},
    {"type": "Sequence", "pretokenizers": [{"type": "Punctuation", "behavior": "Isolated"}, {"type": "Digits", "individual_digits": True},
                                           {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
]


def added(content, index, **flags):
    base = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return {"id": index, "content": content, **base, **flags}


def added_tokens(first, vocabulary):
    """New ones are numbered as the reference numbers them; one that the vocabulary has keeps its id."""
    wanted = [
        ("<tok>", {"special": True}), ("<lft>", {"lstrip": True}), ("<rgt>", {"rstrip": True}),
        ("<both>", {"lstrip": True, "rstrip": True, "special": True}), ("<word>", {"single_word": True}),
        ("norm", {"normalized": True}), ("the", {"normalized": True, "single_word": True}), ("<to", {}),
        ("  ", {"normalized": True}), ("\u0e44", {"single_word": True}),
    ]
    out = []
    for content, flags in wanted:
        known = content in vocabulary
        out.append(added(content, vocabulary[content] if known else first, **flags))
        first += not known
    return out


def strip(start, stop):
    return {"type": "Strip", "content": " ", "start": start, "stop": stop}


MARK = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
BYTES, FUSE = {"type": "ByteFallback"}, {"type": "Fuse"}


def sequence(*decoders):
    return {"type": "Sequence", "decoders": list(decoders)}


def template(before, after, ids):
    special = {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in ids.items()}
    single = [*[{"SpecialToken": {"id": t, "type_id": 0}} for t in before], {"Sequence": {"id": "A", "type_id": 0}},
              *[{"SpecialToken": {"id": t, "type_id": 0}} for t in after]]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


LOWER = {"type": "Lowercase"}
CHANGES = [
    ("metaspace first", "mixtral", {"normalizer": None, "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True},
                                    "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}}),
    ("metaspace never", "mixtral", {"normalizer": None, "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False},
                                    "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False}}),
    ("added tokens", "mixtral", {"added_tokens": 4096}),
    ("added tokens, lower case", "mixtral", {"normalizer": {"type": "Sequence", "normalizers": [LOWER, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
                                             "added_tokens": 4096}),
    ("no byte fallback, fused", "mixtral", {"model": {"byte_fallback": False}}),
    ("no byte fallback, not fused", "mixtral", {"model": {"byte_fallback": False, "fuse_unk": False}}),
    ("no unknown", "mixtral", {"model": {"byte_fallback": False, "unk_token": None}}),
    ("no decoder", "mixtral", {"decoder": None}),
    ("decoder without fuse", "mixtral", {"decoder": sequence(MARK, BYTES, strip(1, 0))}),
    ("decoder strips both ends", "mixtral", {"decoder": sequence(MARK, BYTES, FUSE, strip(2, 0))}),
    ("decoder replaces after fuse", "mixtral", {"decoder": sequence(BYTES, FUSE, {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                                                                    {"type": "Replace", "pattern": {"String": " t"}, "content": "[T]"})}),
    ("decoder with regex after fuse", "mixtral", {"decoder": sequence(MARK, BYTES, FUSE, {"type": "Replace", "pattern": {"Regex": " +$|^ +"}, "content": "_"})}),
    ("byte level added tokens", "dbrx", {"added_tokens": 4088, "normalizer": {"type": "NFC"}}),
    ("byte level template", "dbrx", {"post_processor": {"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        template(["<|endoftext|>"], ["<|im_end|>", "<|pad|>"], {"<|endoftext|>": 4088, "<|im_end|>": 4093, "<|pad|>": 4095})]}}),
    ("byte level prefix", "dbrx", {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}}),
    ("ignore merges", "dbrx", {"model": {"ignore_merges": True}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}}),
    ("roberta", "dbrx", {"post_processor": {"type": "RobertaProcessing", "sep": ["<|im_end|>", 4093], "cls": ["<|im_start|>", 4092], "trim_offsets": True, "add_prefix_space": False}}),
    ("lower-case words", "jamba", {"normalizer": LOWER, "pre_tokenizer": {"type": "Whitespace"}, "decoder": sequence(FUSE)}),
]


def component(kind, config):
    """A tokenizer with one component, and how to apply that."""
    base = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
            "post_processor": None, "decoder": None,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": {}, "merges": []}}
    base[kind] = config
    made = Tokenizer.from_str(json.dumps(base))
    if kind == "normalizer":
        return made.normalizer.normalize_str
    return lambda text: [piece for piece, _ in made.pre_tokenizer.pre_tokenize_str(text)]


def changed(name, base, change, rng):
    document = json.loads((ROOT / "demo" / f"{base}-demo" / "tokenizer.json").read_text(encoding="utf-8"))
    if "added_tokens" in change:
        change = {**change, "added_tokens": added_tokens(change["added_tokens"], document["model"]["vocab"])}
    model = {**document["model"], **change.get("model", {})}
    document = {**document, **change, "model": model}
    t = Tokenizer.from_str(json.dumps(document))
    texts = [{"text": x, "ids": t.encode(x, add_special_tokens=False).ids, "ids_with_special": t.encode(x, add_special_tokens=True).ids}
             for x in TEXTS]
    size = t.get_vocab_size()
    sequences = [c["ids"] for c in texts[:16]]
    low = 260 if base == "mixtral" else 256
    for _ in range(25):
        sequences.append([rng.randrange(low) if rng.random() < 0.5 else rng.randrange(size + 20) for _ in range(rng.randrange(1, 14))])
    decoded = [{"ids": s, "decoded": t.decode(s, skip_special_tokens=False), "decoded_skip_special": t.decode(s, skip_special_tokens=True)}
               for s in sequences]
    return {"name": name, "base": base, "change": change, "texts": texts, "decode": decoded}


def main():
    rng = random.Random(7)
    cases = {"reference": f"tokenizers {tokenizers.__version__}", "normalizer": [], "pre_tokenizer": []}
    for kind, configs in (("normalizer", NORMALIZERS), ("pre_tokenizer", PRE_TOKENIZERS)):
        for config in configs:
            apply = component(kind, config)
            cases[kind].append({"config": config, "out": [apply(x) for x in TEXTS]})
    cases["texts"] = TEXTS
    cases["changed"] = [changed(*c, rng) for c in CHANGES]
    lines = [f'"reference": {json.dumps(cases["reference"])}', f'"texts": {json.dumps(TEXTS)}']
    for kind in ("normalizer", "pre_tokenizer", "changed"):
        lines.append(f'"{kind}": [\n' + ",\n".join(json.dumps(c) for c in cases[kind]) + "\n]")
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
