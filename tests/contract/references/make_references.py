#!/usr/bin/env python3
"""Makes the checkpoints and reference outputs of this folder with Hugging Face transformers.

usage: make_references.py [--out FOLDER] [architecture ...]

Each architecture gets a folder with a small checkpoint of random weights (bf16, fixed seed) and, beside it in
`goldens`, what transformers computes from it in float32 on the CPU: the files that `troupe check --goldens` reads.
Needs torch, transformers, tokenizers and safetensors; Troupe's own tests only read the results.
"""

import argparse
import json
import pathlib

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

BYTES = 256
BOS, EOS = BYTES, BYTES + 1
VOCABULARY = BYTES + 2
NEW_TOKENS = 64

COMMON = dict(vocab_size=VOCABULARY, hidden_size=64, num_attention_heads=4, num_key_value_heads=2,
              max_position_embeddings=512, bos_token_id=BOS, eos_token_id=EOS, initializer_range=0.2)

ARCHITECTURES = {
    # Llama 3: tied embeddings, scaled rotary frequencies whose three ranges all occur.
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, dict(
        COMMON, num_hidden_layers=3, intermediate_size=128, head_dim=16, rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0,
                             high_freq_factor=4.0, original_max_position_embeddings=64))),
    # Qwen3-MoE: norms on each query and key head, heads wider than hidden / heads, a dense first layer.
    "qwen3_moe": (transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM, dict(
        COMMON, num_hidden_layers=3, intermediate_size=96, moe_intermediate_size=48, head_dim=32, num_experts=8,
        num_experts_per_tok=3, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[0], rms_norm_eps=1e-6,
        tie_word_embeddings=False, rope_parameters=dict(rope_type="default", rope_theta=1000000.0))),
}

PROMPTS = {
    "one": "",
    "short": "Hello, world",
    "code": "def f(x):\n    return x * 2\n",
    "unicode": "Grüße, 世界! 🙂",
    "sentence": "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "long": " ".join(str(i * i) for i in range(75)),
}
RECORDED = ("short", "code")  # prompts whose hidden states and router outputs are kept


def make_tokenizer(folder):
    """One token per byte: needs no training and no licence."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {c: i for i, c in enumerate(alphabet)}
    t = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens(["<|begin|>", "<|end|>"])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=t, bos_token="<|begin|>", eos_token="<|end|>")
    fast.save_pretrained(folder)
    return t


def make_model(config_class, model_class, settings, folder):
    """A random checkpoint on disk, and the float32 model of its bf16 weights."""
    torch.manual_seed(20260101)
    model = model_class(config_class(**settings))
    for name, p in model.named_parameters():  # norms that are all one would hide a missing weight
        if p.dim() == 1:
            p.data = 1 + 0.2 * torch.randn_like(p)
    model.to(torch.bfloat16).save_pretrained(folder)
    # Loaded anew: to(bfloat16) has rounded the rotary frequencies as well, which no checkpoint stores.
    return model_class.from_pretrained(folder, dtype=torch.float32).eval()


def router_outputs(model, record):
    def keep(name):
        def hook(module, inputs):
            x = inputs[0].reshape(-1, inputs[0].shape[-1])
            record[name] = torch.nn.functional.linear(x, module.weight)
        return hook
    return [m.register_forward_pre_hook(keep(n)) for n, m in model.named_modules() if n.endswith("mlp.gate")]


@torch.no_grad()
def greedy(model, ids):
    """Argmax without a cache, so that nothing but the full pass is trusted."""
    ids, out, margins = list(ids), [], []
    for _ in range(NEW_TOKENS):
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        best = torch.topk(logits, 2)
        margins.append(float(best.values[0] - best.values[1]))
        out.append(int(best.indices[0]))
        ids.append(out[-1])
    return out, margins


@torch.no_grad()
def reference(model, tokenizer, name, text, states):
    ids = tokenizer.encode(text, add_special_tokens=False).ids if text else [BOS]
    routers = {}
    hooks = router_outputs(model, routers)
    out = model(torch.tensor([ids]), use_cache=False, output_hidden_states=True)
    for h in hooks:
        h.remove()
    logits = out.logits[0]
    if name in RECORDED:
        states[f"{name}.hidden_states"] = torch.stack([h[0] for h in out.hidden_states]).contiguous()
        states[f"{name}.logits"] = logits.contiguous()
        for module, values in routers.items():
            states[f"{name}.router.{module}"] = values.contiguous()
    top = torch.topk(logits[-1], 20)
    logprobs = torch.log_softmax(logits.double(), -1)
    generated, margins = greedy(model, ids)
    first_stop = generated.index(EOS) if EOS in generated else None
    return {
        "id": name, "type": "text" if text else "ids", "text": text, "ids": ids, "n_prompt": len(ids),
        "first_stop": first_stop,
        "greedy_text": tokenizer.decode(generated if first_stop is None else generated[:first_stop],
                                        skip_special_tokens=True),
        "fp32": {
            "last_top20_ids": top.indices.tolist(), "last_top20_logits": top.values.tolist(),
            "last_logsumexp": float(torch.logsumexp(logits[-1].double(), -1)),
            "prompt_logprobs": [float(logprobs[i, ids[i + 1]]) for i in range(len(ids) - 1)][:255],
            "greedy_ids": generated, "greedy_margin": margins,
        },
    }


def make(name, out):
    config_class, model_class, settings = ARCHITECTURES[name]
    folder = out / name
    goldens = folder / "goldens"
    goldens.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(folder)
    model = make_model(config_class, model_class, settings, folder)
    states = {}
    prompts = [reference(model, tokenizer, p, text, states) for p, text in PROMPTS.items()]
    meta = {"transformers": transformers.__version__, "torch": torch.__version__, "class": model_class.__name__,
            "eos_token_ids": [EOS], "num_new": NEW_TOKENS, "logits": "float32 model = bf16 weights upcast"}
    (goldens / "prompts.json").write_text(json.dumps({"meta": meta, "prompts": prompts}))
    save_file(states, goldens / "states.safetensors")
    close = sum(m < 2e-3 for p in prompts for m in p["fp32"]["greedy_margin"])
    print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, {len(prompts)} prompts, "
          f"{close} steps with a near-tie, kinds of tokens {len({t for p in prompts for t in p['fp32']['greedy_ids']})}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    arguments.add_argument("architectures", nargs="*", default=list(ARCHITECTURES))
    a = arguments.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    for name in a.architectures:
        make(name, a.out)


if __name__ == "__main__":
    main()
