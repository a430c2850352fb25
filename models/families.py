#!/usr/bin/env python3
"""Exports model families of transformers at toy size, as stock files are, each with inputs and onnxruntime's outputs.

    pip install -r requirements.txt && pip install --no-deps optimum==2.3.0 optimum-onnx==0.1.0
    python families.py OUT [--only NAME] [--list]

Time     about half a minute a family on two cores, half an hour in all; 2 GB of memory, 150 MB of disk. What exists is skipped.
Models   two layers, width 64, four heads, a vocabulary of 100 or so, random weights with a fixed seed: spread wide enough
         that outputs differ from row to row, but their ranges mean nothing. Every config of the table below.
Export   by Optimum's own configs and patches (`leg` in a name: they call PyTorch's TorchScript exporter), and some by PyTorch's
         new exporter (`dyn`); the number is the opset. A family that Optimum does not know borrows the config of a cousin.
Names    FAMILY[-TASK][-PART][_kv]__EXPORTER.onnx: `_kv` has a cache, which is empty in the recorded inputs; in `past_NAME` it is
         not: one pass of 4 tokens after 8.

For each NAME.onnx:
  NAME.io.npz      `in_INPUT` and `out_OUTPUT`, 40 rows each, 12 tokens a row, nothing padded
  NAME.json        family, opset, exporter, task; `dims`: sizes of the dimensions that are free, for one row; `cache`
  NAME.greedy.npz  for decoders: `prompts` [4, 6], `tokens` [4, 16] as onnxruntime continues them greedily (everything computed anew
                   each time), `margins` [4]: the least distance to the second best token. Of 96 prompts those that do not just
                   repeat a few tokens and whose margins are the widest: a random net is often near a tie, where rounding decides.
A file that cannot be made is listed in failed.txt with the reason.
"""

import argparse
import dataclasses
import json
import logging
import os
import pathlib
import shutil
import tempfile
import traceback
import warnings
import zlib

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import onnxruntime.capi.onnxruntime_pybind11_state  # noqa: E402
import torch  # noqa: E402
import torch._dynamo.config  # noqa: E402
import transformers  # noqa: E402
from optimum.exporters.onnx import model_configs, onnx_export_from_model  # noqa: E402

logging.disable(logging.ERROR)
# The masks of transformers are traced wrongly through this cache.
torch._dynamo.config.fake_tensor_cache_enabled = False

VOCABULARY, WIDTH, HEADS, LAYERS, INNER, CONTEXT = 100, 64, 4, 2, 128, 64
ROWS, LENGTH, PAST = 40, 12, 8
IMAGE, PATCH = 32, 8
FIRST_TOKEN = 5  # Lower numbers are special in one family or another.

GENERATION, MASKED, FEATURES = "text-generation", "fill-mask", "feature-extraction"
TEXT_CLASS, TOKEN_CLASS, ANSWER, IMAGE_CLASS = "text-classification", "token-classification", "question-answering", "image-classification"
SEQ2SEQ, SPEECH = "text2text-generation", "automatic-speech-recognition"
AUTO = {
    GENERATION: transformers.AutoModelForCausalLM,
    MASKED: transformers.AutoModelForMaskedLM,
    FEATURES: transformers.AutoModel,
    TEXT_CLASS: transformers.AutoModelForSequenceClassification,
    TOKEN_CLASS: transformers.AutoModelForTokenClassification,
    ANSWER: transformers.AutoModelForQuestionAnswering,
    IMAGE_CLASS: transformers.AutoModelForImageClassification,
    SEQ2SEQ: transformers.AutoModelForSeq2SeqLM,
    SPEECH: transformers.AutoModelForSpeechSeq2Seq,
}
SHORT = {TEXT_CLASS: "-classify", TOKEN_CLASS: "-tokens", ANSWER: "-answer", MASKED: "-mask", FEATURES: "-features", IMAGE_CLASS: "-classify"}


@dataclasses.dataclass
class Family:
    """One row of the table: a config, and which files to make of it."""

    model_type: str
    settings: dict
    tasks: tuple = (GENERATION,)  # The first is at every opset, the others at the first opset alone.
    opsets: tuple = (17,)  # Of the TorchScript exporter.
    cache: tuple = (17,)  # Opsets of the files with a cache, where there is one.
    past: bool = False  # One pass with a cache that is not empty as well.
    dynamo: tuple = ()  # Opsets of the new exporter.
    borrow: str | None = None  # Whose Optimum config to use.
    auto: type | None = None  # The class, where the task does not tell.


def sizes(**more) -> dict:
    """Settings under the names that most configs use."""
    return dict(hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=INNER) | more


def text(**more) -> dict:
    return sizes(max_position_embeddings=CONTEXT, vocab_size=VOCABULARY) | more


def grouped(**more) -> dict:
    """Like LLaMA, two heads on each key head."""
    return text(num_key_value_heads=2, bos_token_id=1, eos_token_id=2, pad_token_id=0) | more


# Where an embedding cannot be drowned (it is normalised, or scaled up), the head is not the embedding.
UNTIED = dict(tie_word_embeddings=False)


def gpt(**more) -> dict:
    special = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    return dict(n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=CONTEXT, vocab_size=VOCABULARY) | special | more


def vision(**more) -> dict:
    return sizes(image_size=IMAGE, patch_size=PATCH) | more


def seq2seq(**more) -> dict:
    part = dict(layers=LAYERS, attention_heads=HEADS, ffn_dim=INNER)
    both = {f"{side}_{k}": v for side in ("encoder", "decoder") for k, v in part.items()}
    special = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0, decoder_start_token_id=2, forced_eos_token_id=None, forced_bos_token_id=None)
    return dict(d_model=WIDTH, max_position_embeddings=CONTEXT, vocab_size=VOCABULARY) | both | special | more


def t5(**more) -> dict:
    return dict(d_model=WIDTH, d_kv=16, d_ff=INNER, num_layers=LAYERS, num_heads=HEADS, vocab_size=VOCABULARY, decoder_start_token_id=0) | more


ALL = (11, 14, 17, 18, 20)
PARTS = (FEATURES, TEXT_CLASS)
FAMILIES = {
    # Decoders.
    "gpt2": Family("gpt2", gpt(**UNTIED), (GENERATION, TEXT_CLASS, TOKEN_CLASS), ALL, (11, 14, 17, 20), True, (18, 23)),
    "gpt_neo": Family("gpt_neo", dict(hidden_size=WIDTH, num_layers=LAYERS, num_heads=HEADS, attention_types=[[["global", "local"], 1]],
                      window_size=4, max_position_embeddings=CONTEXT, vocab_size=VOCABULARY), past=True),
    "gpt_neox": Family("gpt_neox", text(rotary_pct=0.25), opsets=(14, 17, 20), past=True, dynamo=(23,)),
    "gptj": Family("gptj", gpt(rotary_dim=8), cache=(18,)),
    "codegen": Family("codegen", gpt(rotary_dim=8), cache=(14,)),
    "opt": Family("opt", dict(hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, ffn_dim=INNER, word_embed_proj_dim=WIDTH,
                  max_position_embeddings=CONTEXT, vocab_size=VOCABULARY), (GENERATION, TEXT_CLASS), (14, 17, 18), past=True),
    "bloom": Family("bloom", dict(hidden_size=WIDTH, n_layer=LAYERS, n_head=HEADS, vocab_size=VOCABULARY, **UNTIED), opsets=(17, 20), past=True),
    "mpt": Family("mpt", dict(d_model=WIDTH, n_layers=LAYERS, n_heads=HEADS, max_seq_len=CONTEXT, vocab_size=VOCABULARY), cache=(18,)),
    "falcon": Family("falcon", text(num_kv_heads=1, multi_query=True, parallel_attn=True, new_decoder_architecture=False, alibi=False, bias=False)),
    "falcon_alibi": Family("falcon", text(multi_query=False, parallel_attn=False, new_decoder_architecture=False, alibi=True, bias=True)),
    "falcon_grouped": Family("falcon", text(num_kv_heads=2, new_decoder_architecture=True, alibi=False)),
    "gpt_bigcode": Family("gpt_bigcode", gpt(multi_query=True), cache=(14,), past=True),
    "llama": Family("llama", grouped(), (GENERATION, TEXT_CLASS, FEATURES), ALL, (14, 17, 18, 20), True, (18, 23)),
    "llama_linear": Family("llama", grouped(rope_scaling=dict(rope_type="linear", factor=4.0))),
    "llama_dynamic": Family("llama", grouped(rope_scaling=dict(rope_type="dynamic", factor=2.0))),
    "llama_yarn": Family("llama", grouped(rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16))),
    "llama3": Family("llama", grouped(num_key_value_heads=1, rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0,
                     high_freq_factor=4.0, original_max_position_embeddings=16)), opsets=(14, 17), dynamo=(23,)),
    "mistral": Family("mistral", grouped(sliding_window=4), opsets=(17, 18), past=True),
    "qwen2": Family("qwen2", grouped(), (GENERATION, TEXT_CLASS), (14, 17, 20), (17, 18), True, (18, 23)),
    "qwen3": Family("qwen3", grouped(head_dim=16), opsets=(14, 17, 20), past=True, dynamo=(18, 23)),
    "phi": Family("phi", text(partial_rotary_factor=0.5), cache=(14,), dynamo=(18,)),
    "phi3": Family("phi3", grouped(sliding_window=None), opsets=(14, 17), dynamo=(18,)),
    "gemma": Family("gemma", grouped(**UNTIED, num_key_value_heads=1, head_dim=16), opsets=(17, 20), dynamo=(18,)),
    "gemma2": Family("gemma2", grouped(**UNTIED, head_dim=16, sliding_window=4, query_pre_attn_scalar=16, attn_logit_softcapping=5.0,
                     final_logit_softcapping=8.0), past=True),
    "gemma3": Family("gemma3_text", grouped(**UNTIED, head_dim=16, sliding_window=4, query_pre_attn_scalar=16,
                     layer_types=["sliding_attention", "full_attention"]), past=True),
    "olmo": Family("olmo", grouped(), cache=(14,)),
    "olmo2": Family("olmo2", grouped(), cache=(18,)),
    "granite": Family("granite", grouped(embedding_multiplier=3.0, residual_multiplier=0.5, attention_multiplier=0.1, logits_scaling=2.0)),
    "stablelm": Family("stablelm", grouped(partial_rotary_factor=0.25), cache=(14,)),
    "cohere": Family("cohere", grouped(use_qk_norm=False), cache=(18,)),
    "helium": Family("helium", grouped(head_dim=16)),
    "smollm3": Family("smollm3", grouped(no_rope_layers=[1, 0])),
    "nemotron": Family("nemotron", grouped(head_dim=16, partial_rotary_factor=0.5)),
    "arcee": Family("arcee", grouped()),
    "glm": Family("glm", grouped(head_dim=16, partial_rotary_factor=0.5)),
    "starcoder2": Family("starcoder2", grouped(sliding_window=None), borrow="llama"),
    "persimmon": Family("persimmon", text(partial_rotary_factor=0.5, qk_layernorm=True), borrow="gpt_neox"),
    "mixtral": Family("mixtral", grouped(num_local_experts=4, num_experts_per_tok=2, sliding_window=None), borrow="mistral", cache=()),
    "qwen3_moe": Family("qwen3_moe", grouped(head_dim=16, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32), cache=()),
    "gpt_oss": Family("gpt_oss", grouped(head_dim=16, sliding_window=4, num_local_experts=2, num_experts_per_tok=1), cache=()),
    # Encoders of text.
    "bert": Family("bert", text(), (FEATURES, MASKED, TEXT_CLASS, TOKEN_CLASS, ANSWER), ALL, dynamo=(18, 23)),
    "roberta": Family("roberta", text(), (MASKED, FEATURES, TEXT_CLASS), (14, 17, 20)),
    "camembert": Family("camembert", text(), (FEATURES,), (17,)),
    "xlm_roberta": Family("xlm-roberta", text(), (FEATURES, TEXT_CLASS), (17, 18)),
    "distilbert": Family("distilbert", dict(dim=WIDTH, n_layers=LAYERS, n_heads=HEADS, hidden_dim=INNER, max_position_embeddings=CONTEXT,
                         vocab_size=VOCABULARY), (FEATURES, MASKED, TEXT_CLASS), (14, 17, 18), dynamo=(18,)),
    "albert": Family("albert", text(embedding_size=32), (FEATURES, MASKED), (17, 18)),
    "electra": Family("electra", text(embedding_size=32), (FEATURES, TOKEN_CLASS), (14, 17)),
    "mpnet": Family("mpnet", text(), (FEATURES, MASKED), (14, 17)),
    "deberta": Family("deberta", text(relative_attention=True, pos_att_type=["c2p", "p2c"], max_relative_positions=-1), PARTS, (17,)),
    "deberta_v2": Family("deberta-v2", text(relative_attention=True, pos_att_type=["c2p", "p2c"], position_buckets=8, share_att_key=True,
                         norm_rel_ebd="layer_norm"), PARTS, (17,)),
    "convbert": Family("convbert", text(embedding_size=32, head_ratio=2, conv_kernel_size=3), (FEATURES,)),
    "roformer": Family("roformer", text(embedding_size=32), (FEATURES, MASKED), (14, 17)),
    "squeezebert": Family("squeezebert", text(embedding_size=WIDTH), (FEATURES,)),
    "mobilebert": Family("mobilebert", text(embedding_size=32, intra_bottleneck_size=32), (FEATURES,)),
    "rembert": Family("rembert", text(input_embedding_size=32, output_embedding_size=32), (FEATURES,)),
    "megatron_bert": Family("megatron-bert", text(), (FEATURES,)),
    "modernbert": Family("modernbert", text(local_attention=8, global_attn_every_n_layers=2, reference_compile=False, cls_token_id=1,
                         sep_token_id=2, pad_token_id=0, bos_token_id=1, eos_token_id=2), (FEATURES, MASKED)),
    "xlm": Family("xlm", dict(emb_dim=WIDTH, n_layers=LAYERS, n_heads=HEADS, max_position_embeddings=CONTEXT, vocab_size=VOCABULARY), (FEATURES,)),
    "flaubert": Family("flaubert", dict(emb_dim=WIDTH, n_layers=LAYERS, n_heads=HEADS, max_position_embeddings=CONTEXT, vocab_size=VOCABULARY), (FEATURES,)),
    "esm": Family("esm", text(pad_token_id=1, mask_token_id=4, position_embedding_type="rotary"), (FEATURES,)),
    "splinter": Family("splinter", text(), (FEATURES,)),
    "data2vec_text": Family("data2vec-text", text(), (FEATURES,)),
    "layoutlm": Family("layoutlm", text(max_2d_position_embeddings=64), (FEATURES,)),
    # Vision.
    "vit": Family("vit", vision(), (IMAGE_CLASS, FEATURES), ALL, dynamo=(18, 23)),
    "deit": Family("deit", vision(architectures=["DeiTForImageClassification"]), (IMAGE_CLASS, FEATURES), (14, 17)),
    "beit": Family("beit", vision(use_relative_position_bias=True, use_mean_pooling=True, layer_scale_init_value=0.5), (IMAGE_CLASS,), (14, 17)),
    "dinov2": Family("dinov2", vision(mlp_ratio=2), (FEATURES, IMAGE_CLASS), (17, 18), borrow="vit"),
    "vit_msn": Family("vit_msn", vision(), (FEATURES,)),
    "data2vec_vision": Family("data2vec-vision", vision(layer_scale_init_value=0.5), (IMAGE_CLASS,)),
    "clip_vision": Family("clip_vision_model", vision(), (FEATURES,), (14, 17), auto=transformers.CLIPVisionModel),
    "siglip_vision": Family("siglip_vision_model", vision(), (FEATURES,), (17,), auto=transformers.SiglipVisionModel),
    "clip_text": Family("clip_text_model", text(bos_token_id=1, eos_token_id=2, pad_token_id=0), (FEATURES,), (14, 17), (), False, (18,),
                        auto=transformers.CLIPTextModel, borrow="clip_text"),
    "siglip_text": Family("siglip_text_model", text(), (FEATURES,), (17,), auto=transformers.SiglipTextModel, borrow="siglip_text"),
    "yolos": Family("yolos", vision(image_size=[IMAGE, IMAGE], num_detection_tokens=4), ("object-detection",), auto=transformers.AutoModelForObjectDetection),
    "swin": Family("swin", dict(image_size=IMAGE, patch_size=4, embed_dim=32, depths=[1, 1], num_heads=[2, 4], window_size=4), (IMAGE_CLASS,)),
    "convnext": Family("convnext", dict(image_size=IMAGE, hidden_sizes=[16, 32], depths=[1, 1], num_stages=2), (IMAGE_CLASS,)),
    # Encoder and decoder.
    "t5": Family("t5", t5(), (SEQ2SEQ,), (14, 17, 18), (17,), True),
    "t5_gated": Family("t5", t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False), (SEQ2SEQ,), (17,), ()),
    "mt5": Family("mt5", t5(), (SEQ2SEQ,), (17,), ()),
    "bart": Family("bart", seq2seq(), (SEQ2SEQ,), (14, 17), (17,), True),
    "mbart": Family("mbart", seq2seq(), (SEQ2SEQ,), (17,), ()),
    "marian": Family("marian", seq2seq(decoder_vocab_size=VOCABULARY), (SEQ2SEQ,), (17, 18), (17,)),
    "pegasus": Family("pegasus", seq2seq(), (SEQ2SEQ,), (17,), ()),
    "m2m_100": Family("m2m_100", seq2seq(), (SEQ2SEQ,), (17,), ()),
    "blenderbot": Family("blenderbot", seq2seq(), (SEQ2SEQ,), (17,), ()),
    # Sound and series.
    "whisper": Family("whisper", seq2seq(num_mel_bins=8, max_source_positions=LENGTH, max_target_positions=CONTEXT, suppress_tokens=None,
                      begin_suppress_tokens=None), (SPEECH,), (17,), ()),
    "wav2vec2": Family("wav2vec2", sizes(conv_dim=[16, 16], conv_stride=[5, 2], conv_kernel=[10, 3], num_feat_extract_layers=2,
                       num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4), (FEATURES,)),
    "spectrogram": Family("audio-spectrogram-transformer", sizes(patch_size=8, frequency_stride=8, time_stride=8, max_length=32, num_mel_bins=16),
                          ("audio-classification",), auto=transformers.AutoModelForAudioClassification),
    "patchtst": Family("patchtst", dict(num_input_channels=2, context_length=32, patch_length=8, patch_stride=8, num_hidden_layers=LAYERS,
                       d_model=WIDTH, num_attention_heads=HEADS, ffn_dim=INNER), (FEATURES,)),
}


class ClipTextConfig(model_configs.BertOnnxConfig):
    """Optimum has a config for a whole CLIP only: the text tower alone takes tokens and a mask."""

    inputs = property(lambda self: {n: {0: "batch_size", 1: "sequence_length"} for n in ("input_ids", "attention_mask")})


class SiglipTextConfig(ClipTextConfig):
    inputs = property(lambda self: {"input_ids": {0: "batch_size", 1: "sequence_length"}})


BORROWED = {
    "llama": model_configs.LlamaOnnxConfig,
    "mistral": model_configs.MistralOnnxConfig,
    "gpt_neox": model_configs.GPTNeoXOnnxConfig,
    "vit": model_configs.ViTOnnxConfig,  # Optimum's own for DINOv2 asks the hub for a preprocessor.
    "clip_text": ClipTextConfig,
    "siglip_text": SiglipTextConfig,
}


def make(family: Family, task: str, eager: bool):
    """The model with weights that keep activations near 1, whatever the fan-in."""
    # The text tower of SigLIP has a config that AutoConfig does not know.
    config_class = getattr(family.auto, "config_class", None)
    config = config_class(**family.settings) if config_class else transformers.AutoConfig.for_model(family.model_type, **family.settings)
    implementation = dict(attn_implementation="eager") if eager else {}
    cls = family.auto or AUTO[task]
    build = cls.from_config if hasattr(cls, "from_config") else cls._from_config
    model = build(config, **implementation).eval()
    generator = torch.Generator().manual_seed(zlib.crc32(family.model_type.encode()))
    # A decoder whose head is its embedding repeats the last token unless its layers drown the embedding.
    embedding = 0.1 if task == GENERATION and model.config.tie_word_embeddings else 0.7
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim < 2:
                # Gains stay near what they were, be that 1 or (Gemma) 0.
                parameter.copy_(parameter.clamp(-2, 2) + 0.1 * noise)
            elif "embed" in name or name.endswith(("wte.weight", "wpe.weight", "shared.weight", "token")):
                parameter.copy_(embedding * noise)
            else:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
    return model


def feeds(session, model, rows: int, length: int, past: dict, seed: int) -> dict:
    """Inputs by name. `past`: arrays of the cache by name, which tell its length; without them it is empty."""
    rng = np.random.default_rng(seed)
    before = 0
    caches = {}
    for i in session.get_inputs():
        if i.name.startswith("past_key_values"):
            if past:
                caches[i.name] = past[i.name][:rows]
                if ".encoder" not in i.name:
                    before = next(n for n, d in zip(caches[i.name].shape, i.shape) if isinstance(d, str) and "past" in d)
            else:
                shape = [rows if a == 0 else 0 if isinstance(d, str) else d for a, d in enumerate(i.shape)]
                caches[i.name] = np.zeros(shape, np.float32)
    config = model.config
    result = {}
    for i in session.get_inputs():
        name, shape = i.name, i.shape
        if name in caches:
            result[name] = caches[name]
        elif name in ("input_ids", "decoder_input_ids"):
            result[name] = rng.integers(FIRST_TOKEN, VOCABULARY, (rows, length))
        elif name == "bbox":
            corner = rng.integers(0, 30, (rows, length, 2))
            result[name] = np.concatenate([corner, corner + rng.integers(1, 30, (rows, length, 2))], axis=-1)
        elif name == "encoder_attention_mask":
            result[name] = np.ones((rows, encoder_length(model)), np.int64)
        elif name == "attention_mask":
            result[name] = np.ones((rows, before + length), np.int64)
        elif name == "position_ids":
            result[name] = np.tile(np.arange(before, before + length), (rows, 1))
        elif name == "token_type_ids":
            result[name] = np.zeros((rows, length), np.int64)
        elif name == "encoder_hidden_states":
            result[name] = rng.standard_normal((rows, encoder_length(model), WIDTH), np.float32)
        elif name == "pixel_values":
            result[name] = rng.standard_normal((rows, 3, IMAGE, IMAGE), np.float32)
        elif name == "input_features":
            result[name] = rng.standard_normal((rows, config.num_mel_bins, 2 * config.max_source_positions), np.float32)
        elif name == "input_values":
            size = (config.max_length, config.num_mel_bins) if hasattr(config, "num_mel_bins") else (400,)
            result[name] = rng.standard_normal((rows, *size), np.float32)
        elif name == "past_values":
            result[name] = rng.standard_normal((rows, config.context_length, config.num_input_channels), np.float32)
        else:
            raise ValueError(f"no rule for the input {name} {shape}")
        if "int32" in i.type:
            result[name] = result[name].astype(np.int32)
    return result


def encoder_length(model) -> int:
    """Positions that a decoder's second input has."""
    return getattr(model.config, "max_source_positions", None) or LENGTH - 3


def run(session, inputs: dict) -> dict:
    names = [o.name for o in session.get_outputs()]
    try:
        return dict(zip(names, session.run(None, inputs)))
    except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument:
        # PyTorch writes a RotaryEmbedding whose angles have one row, which onnxruntime takes for one row of data alone.
        rows = range(len(next(iter(inputs.values()))))
        singles = [session.run(None, {k: v[i : i + 1] for k, v in inputs.items()}) for i in rows]
        return dict(zip(names, map(np.concatenate, zip(*singles))))


def cached(first, model, rows: int, encoder: dict) -> dict:
    """The cache after PAST tokens, by the names that it has as an input. `first`: the file that begins with an empty one."""
    inputs = feeds(first, model, rows, PAST, {}, seed=7)
    inputs |= {k: v[:rows] for k, v in encoder.items() if k in inputs}
    return {k.replace("present", "past_key_values"): v for k, v in run(first, inputs).items() if k.startswith("present")}


def greedy(session, model) -> dict | None:
    """Greedy continuations, or nothing if the file is not a decoder that stands alone."""
    kinds = {i.name for i in session.get_inputs()}
    if "input_ids" not in kinds or "encoder_hidden_states" in kinds or [o.name for o in session.get_outputs()][:1] != ["logits"]:
        return None
    rows = 96
    prompts = np.random.default_rng(3).integers(FIRST_TOKEN, VOCABULARY, (rows, 6))
    tokens, margins = prompts, np.full(rows, np.inf)
    for _ in range(16):
        inputs = feeds(session, model, rows, tokens.shape[1], {}, seed=0) | {"input_ids": tokens}
        logits = run(session, inputs)["logits"][:, -1]
        best, ranked = logits.argmax(-1), np.sort(logits)
        margins = np.minimum(margins, ranked[:, -1] - ranked[:, -2])
        tokens = np.concatenate([tokens, best[:, None]], axis=1)
    varied = np.array([len(set(row[6:])) >= 6 for row in tokens])
    chosen = np.lexsort((-margins, ~varied))[:4]
    return dict(prompts=prompts[chosen], tokens=tokens[chosen, 6:], margins=margins[chosen].astype(np.float32))


def record(path: pathlib.Path, target: pathlib.Path, model, facts: dict, past: dict, decoder: bool) -> None:
    """Runs a file and lays it down with what it was given and what it answered."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    length = LENGTH if not past else LENGTH - PAST
    inputs = feeds(session, model, ROWS, length, past, seed=1)
    outputs = run(session, inputs)
    if not all(np.isfinite(x).all() for x in outputs.values()):
        raise ValueError("an output is not finite")
    dims = {}
    for i in session.get_inputs():
        for axis, (name, size) in enumerate(zip(i.shape, inputs[i.name].shape)):
            if isinstance(name, str):
                dims[name] = 1 if axis == 0 and size == ROWS else size
    np.savez(target.with_suffix(".io.npz"), **{f"in_{k}": v for k, v in inputs.items()}, **{f"out_{k}": v for k, v in outputs.items()})
    cache = any(i.name.startswith("past_key_values") for i in session.get_inputs())
    target.with_suffix(".json").write_text(json.dumps(facts | dict(dims=dims, cache=cache), indent=1))
    if decoder and not past and (answers := greedy(session, model)):
        np.savez(target.with_suffix(".greedy.npz"), **answers)
    shutil.copy(path, target)


def export_optimum(model, family: Family, task: str, opset: int, folder: str) -> None:
    more = {}
    if family.borrow:
        plain = task.removesuffix("-with-past")
        use = dict(use_past=True, use_past_in_inputs=True) if plain != task else {}
        more["custom_onnx_configs"] = {"model": BORROWED[family.borrow](model.config, task=plain, **use)}
        model.config.export_model_type = family.borrow
    if family.model_type == "whisper":
        more["nb_max_frames"] = 2 * model.config.max_source_positions
    onnx_export_from_model(model, folder, opset=opset, task=task, do_validation=False, **more)


class Plain(torch.nn.Module):
    """A model without its cache, by position: what the new exporter takes."""

    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, first, second=None):
        inputs = (first,) if second is None else (first, second)
        more = dict(use_cache=False) if getattr(self.model.config, "use_cache", None) is not None else {}
        out = self.model(**dict(zip(self.names, inputs)), return_dict=True, **more)
        return out.logits if hasattr(out, "logits") else out.last_hidden_state


def export_dynamo(model, task: str, opset: int, folder: str) -> None:
    dynamic = torch.export.Dim.DYNAMIC
    if hasattr(model.config, "image_size"):
        names, inputs, shapes = ["pixel_values"], [torch.randn(2, 3, IMAGE, IMAGE)], [{0: dynamic}]
    else:
        names = ["input_ids", "attention_mask"]
        inputs = [torch.randint(FIRST_TOKEN, VOCABULARY, (2, LENGTH - 1)), torch.ones(2, LENGTH - 1, dtype=torch.long)]
        shapes = [{0: dynamic, 1: dynamic}] * 2
    output = "logits" if task not in (FEATURES,) else "last_hidden_state"
    torch.onnx.export(Plain(model, names), tuple(inputs), os.path.join(folder, "model.onnx"), input_names=names, output_names=[output],
                      dynamic_shapes=tuple(shapes), dynamo=True, opset_version=opset, external_data=False, verbose=False)


def jobs(name: str, family: Family):
    """What to make of a family: (exporter, opset, task, cache, wanted name)."""
    for at, task in enumerate(family.tasks):
        suffix = SHORT.get(task, "") if at or task in (MASKED,) else ""
        for opset in family.opsets if at == 0 else family.opsets[-1:] if 17 not in family.opsets else (17,):
            yield "leg", opset, task, False, f"{name}{suffix}"
    first = family.tasks[0]
    if first in (GENERATION, SEQ2SEQ):
        for opset in family.cache:
            yield "leg", opset, f"{first}-with-past", True, f"{name}"
    for opset in family.dynamo:
        yield "dyn", opset, first, False, f"{name}{SHORT.get(first, '') if first == MASKED else ''}"


PARTS_OF = {"model.onnx": "", "encoder_model.onnx": "-encoder", "decoder_model.onnx": "-decoder", "decoder_with_past_model.onnx": "-decoder"}


def rank(job) -> int:
    """What comes first: each family once, then the caches, then the new exporter, then other tasks and opsets."""
    name, (exporter, opset, task, cache, stem) = job
    main = task.removesuffix("-with-past") == FAMILIES[name].tasks[0]
    if exporter == "dyn":
        return 2
    return (1 if cache else 0) if main and opset == 17 else 3


def work(name: str, family: Family, job, out: pathlib.Path, failed: dict) -> None:
    """Does one job; a fault goes into `failed`."""
    exporter, opset, task, cache, stem = job
    label = f"{stem}{'_kv' if cache else ''}__{exporter}{opset:02}"
    done = out / f".done-{label}"
    if done.exists():
        return
    try:
        model = make(family, task.removesuffix("-with-past"), eager=opset < 14)
        with tempfile.TemporaryDirectory() as folder:
            if exporter == "leg":
                export_optimum(model, family, task, opset, folder)
            else:
                export_dynamo(model, task, opset, folder)
            facts = dict(family=name, opset=opset, exporter={"leg": "torchscript", "dyn": "dynamo"}[exporter], task=task)
            made = write(pathlib.Path(folder), out, stem, f"{exporter}{opset:02}", family, model, cache, facts)
        done.touch()
        failed.pop(label, None)
        print("made  ", " ".join(made), flush=True)
    except Exception as e:
        where = traceback.extract_tb(e.__traceback__)[-1]
        reason = " ".join(f"{type(e).__name__}: {e}".split())[:300]
        failed[label] = f"{reason} ({pathlib.Path(where.filename).name}:{where.lineno})"
        print("failed", label, failed[label], flush=True)


def write(folder: pathlib.Path, out: pathlib.Path, stem: str, version: str, family: Family, model, cache: bool, facts: dict) -> list[str]:
    """Records every file of an export; the whole of a family's parts or an error."""
    decoder = facts["task"].startswith(GENERATION)
    made = []
    for file, part in PARTS_OF.items():
        path = folder / file
        if not path.exists() or (cache and file == "encoder_model.onnx"):
            continue  # The encoder is the same with and without a cache.
        named = f"{stem}{part}{'_kv' if cache else ''}__{version}"
        past = {}
        if file == "decoder_with_past_model.onnx":
            named, past = "past_" + named, cached(onnxruntime.InferenceSession(folder / "decoder_model.onnx"), model, ROWS, {})
        record(path, out / f"{named}.onnx", model, facts, past, decoder)
        made.append(named)
        if cache and decoder and family.past and facts["opset"] == 17:
            past = cached(onnxruntime.InferenceSession(path), model, ROWS, {})
            record(path, out / f"past_{named}.onnx", model, facts, past, False)
            made.append("past_" + named)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--only", metavar="NAME", help="families whose names begin so")
    parser.add_argument("--list", action="store_true", help="print what would be made")
    given = parser.parse_args()
    chosen = {n: f for n, f in FAMILIES.items() if not given.only or n.startswith(given.only)}
    if given.list:
        for name, family in chosen.items():
            print(name, *[f"{exporter}{opset}{'_kv' if cache else ''}" for exporter, opset, _, cache, _ in jobs(name, family)])
        return
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "failed.txt"
    failed = dict(line.split("\t") for line in path.read_text().splitlines()) if path.exists() and given.only else {}
    for name, job in sorted(((n, j) for n, f in chosen.items() for j in jobs(n, f)), key=rank):
        work(name, chosen[name], job, given.out, failed)
        path.write_text("".join(f"{k}\t{v}\n" for k, v in sorted(failed.items())))
    print(len(list(given.out.glob("*.onnx"))), "files,", len(failed), "failed")


if __name__ == "__main__":
    main()
