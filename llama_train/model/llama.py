"""Llama: token embedding, decoder layers (attention and SwiGLU around a residual stream), norm, language-model head.

Llama 1 to 3.2 are one class, told apart by the numbers of their config (llama_train/families.py). Weight names, channel
order and config are transformers', so what is saved opens everywhere and what others publish opens here.
Shapes: B batch, T time, S keys (T plus what the cache holds), N query heads, D width, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Cache, DynamicCache, GenerationMixin, LlamaConfig, PreTrainedModel
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from llama_train.model.attention import LlamaAttention, runs_varlen
from llama_train.model.documents import Documents, find_documents, given_documents, restarting_positions
from llama_train.model.loss import IGNORED, LMHead
from llama_train.model.rms_norm import LlamaRMSNorm
from llama_train.model.rope import LlamaRotaryEmbedding
from llama_train.model.swiglu import LlamaMLP


class LlamaDecoderLayer(GradientCheckpointingLayer):
    """Two residual steps: attention over the normed stream, then SwiGLU over the normed stream."""

    def __init__(self, config: LlamaConfig, layer_idx: int) -> None:
        super().__init__()
        self.self_attn = LlamaAttention(config, layer_idx)
        self.mlp = LlamaMLP(config)
        self.input_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden: torch.Tensor, **attention_inputs) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(B, T, D) -> (B, T, D) and the attention weights or None; `attention_inputs` as LlamaAttention takes them."""
        attended, weights = self.self_attn(self.input_layernorm(hidden), **attention_inputs)
        hidden = hidden + attended
        return hidden + self.mlp(self.post_attention_layernorm(hidden)), weights


class LlamaPreTrainedModel(PreTrainedModel):
    """What transformers must know to load, save, shard and checkpoint a Llama."""

    config_class = LlamaConfig
    config: LlamaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["LlamaDecoderLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _can_compile_fullgraph = True  # a static cache's decode step is one graph


class LlamaModel(LlamaPreTrainedModel):
    """Everything below the head: token ids to hidden states."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(LlamaDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config)
        self.gradient_checkpointing = False
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cu_seq_lens_q: torch.Tensor | None = None,
        cu_seq_lens_k: torch.Tensor | None = None,
        max_length_q: int | None = None,
        max_length_k: int | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast | tuple:
        """Hidden states of `input_ids` (B, T) or `inputs_embeds` (B, T, D).

        Packed documents are told by `cu_seq_lens_q` over the flattened batch (its `_k` twin says the same), or found
        where `position_ids` restart: each attends to itself only, and no cache is returned for them. `attention_mask`
        is (B, S) with 0 on padding, or a ready (B, 1, T, S) mask.

        Raises:
            ValueError: both or neither of `input_ids` and `inputs_embeds`; packed documents with a cache.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give the model exactly one of input_ids and inputs_embeds.")
        config = self.config
        output_attentions = config.output_attentions if output_attentions is None else output_attentions
        output_hidden_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return_dict = config.return_dict if return_dict is None else return_dict
        if use_cache is None:
            use_cache = config.use_cache and not self.training  # nobody generates from a training step
        if self.gradient_checkpointing and self.training:
            use_cache = False

        hidden = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        bounds = cu_seq_lens_k if cu_seq_lens_q is None else cu_seq_lens_q
        documents = self._documents(hidden, attention_mask, position_ids, past_key_values, bounds, max_length_q)
        if documents is not None:
            if past_key_values is not None:
                raise ValueError("Packed documents cannot use a KV cache (a later token would read across documents).")
            mask, use_cache = None, False
            if position_ids is None:
                batch, time = hidden.shape[:2]
                position_ids = restarting_positions(documents.cu_seq_lens, batch * time).view(batch, time)
        elif attention_mask is None and past_key_values is None:
            mask = None
        else:
            mask = create_causal_mask(config, hidden, attention_mask, past_key_values)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=config)
        if position_ids is None:
            seen = 0 if past_key_values is None else past_key_values.get_seq_length()
            position_ids = (torch.arange(hidden.shape[1], device=hidden.device) + seen).unsqueeze(0)

        position_embeddings = self.rotary_emb(hidden, position_ids)
        all_hidden, all_weights = [hidden], []
        for layer in self.layers:
            hidden, weights = layer(
                hidden,
                position_embeddings=position_embeddings,
                mask=mask,
                documents=documents,
                past_key_values=past_key_values,
                output_attentions=output_attentions,
            )
            if output_hidden_states:
                all_hidden.append(hidden)
            if output_attentions:
                all_weights.append(weights)
        hidden = self.norm(hidden)
        all_hidden[-1] = hidden  # transformers' convention: the last entry is after the norm
        outputs = BaseModelOutputWithPast(
            last_hidden_state=hidden,
            past_key_values=past_key_values if use_cache else None,
            hidden_states=tuple(all_hidden) if output_hidden_states else None,
            attentions=tuple(all_weights) if output_attentions else None,
        )
        return outputs if return_dict else outputs.to_tuple()

    def _documents(
        self, hidden, attention_mask, position_ids, past_key_values, cu_seq_lens, max_length
    ) -> Documents | None:
        """Packed documents as given, or as restarting positions tell; None where every row is one text."""
        device = hidden.device
        dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else hidden.dtype
        dropout = self.training and bool(self.config.attention_dropout)
        one_by_one = not runs_varlen(device, dtype, dropout)
        if cu_seq_lens is not None:
            return given_documents(cu_seq_lens, max_length, hidden.shape[:2].numel(), one_by_one)
        may_restart = position_ids is not None and hidden.shape[1] > 1
        if not may_restart or (attention_mask is not None and attention_mask.ndim == 4):
            return None
        if past_key_values is not None and past_key_values.get_seq_length() > 0:
            return None
        return find_documents(position_ids.expand(hidden.shape[:2]), attention_mask, one_by_one)


class LlamaForCausalLM(LlamaPreTrainedModel, GenerationMixin):
    """Llama with its head: next-token logits, or their loss without ever building them."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.model = LlamaModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = LMHead(config.hidden_size, config.vocab_size)
        self.post_init()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Keep the head an LMHead when transformers hands over a plain Linear (after resizing the vocabulary)."""
        if type(new_embeddings) is nn.Linear:
            weight = new_embeddings.weight
            new_embeddings = LMHead(weight.shape[1], weight.shape[0], device="meta")
            new_embeddings.weight = weight
            # or transformers' next post_init would draw it anew
            new_embeddings._is_hf_initialized = True  # type: ignore[assignment]
        self.lm_head = new_embeddings

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: int | torch.Tensor | None = None,
        skip_logits: bool | None = None,
        cu_seq_lens_q: torch.Tensor | None = None,
        cu_seq_lens_k: torch.Tensor | None = None,
        max_length_q: int | None = None,
        max_length_k: int | None = None,
        shift_labels: torch.Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast | tuple:
        """Logits of the last `logits_to_keep` positions (0: all; a tensor: those), and with `labels` the loss.

        Args:
            labels: (B, T), the input ids themselves with -100 where a token is not to be predicted; shifted here.
            shift_labels: (B, T), labels that are shifted already (sequence parallelism cuts the text after the shift);
                they win over `labels`.
            num_items_in_batch: what the summed loss is divided by; the counted labels of this call if None.
            skip_logits: None leaves the logits out when there are labels and the model is in training mode, True
                whenever there are labels, False never.
            others: as LlamaModel takes them.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            cu_seq_lens_q=cu_seq_lens_q,
            cu_seq_lens_k=cu_seq_lens_k,
            max_length_q=max_length_q,
            max_length_k=max_length_k,
            return_dict=True,
            **kwargs,
        )
        hidden = outputs.last_hidden_state  # (B, T, D)
        loss = logits = None
        targets = shift_labels
        if targets is None and labels is not None:
            targets = F.pad(labels, (0, 1), value=IGNORED)[:, 1:]
        if targets is not None:
            targets = targets.to(hidden.device)
            count = (targets != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
            # a count of 0 gives NaN, as in transformers: better than a silent 0
            count = torch.as_tensor(count, device=hidden.device)
            loss = self._summed_loss(hidden, targets) / count
        if targets is None or not (self.training if skip_logits is None else skip_logits):
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.lm_head(hidden[:, kept])  # (B, kept, V)
        result = CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
        return result if (self.config.return_dict if return_dict is None else return_dict) else result.to_tuple()

    def _summed_loss(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if isinstance(self.lm_head, LMHead) and self.tp_size is None:
            return self.lm_head(hidden, targets)
        # an adapter around the head (peft), or tensor parallelism across it, knows only logits
        logits = self.lm_head(hidden).float()
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
