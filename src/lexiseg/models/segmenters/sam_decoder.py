"""SAM's mask decoder for many prompts, of one image or of one each: the same function with less arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import layer_norm


@dataclass(frozen=True, eq=False)
class SharedImage:
    """What the decoder needs of an image, the same for all of its prompts; made by `share_image`.

    With L = h w image tokens of C channels, and attention heads of d channels; of N images, each of which has one
    prompt, there is an axis of N before L, but for the positions:

    Attributes:
        tokens: (L, C), the encoder's embedding with that of the mask prompt, or of "no mask given", added.
        positions: (L, C), the positional encoding.
        keys: (heads, L, d), what the first layer's prompt tokens compare themselves with.
        values: (heads, L, d), what they collect.
        queries: (heads, L, d), what the first layer's image tokens compare the prompt tokens with.
        grid: (h, w).
    """

    tokens: Tensor
    positions: Tensor
    keys: Tensor
    values: Tensor
    queries: Tensor
    grid: tuple[int, int]


def share_image(model: Any, embedding: Tensor, mask: Tensor | None = None) -> SharedImage:
    """Do once what a SamModel does again for every prompt.

    Args:
        model: a SamModel.
        embedding: (1, C, h, w) from its image encoder; (N, C, h, w) where N prompts have an image each.
        mask: (1, C, h, w) a mask as its prompt encoder embeds it; None for "no mask given".
    """
    first = model.mask_decoder.transformer.layers[0]
    into, back = first.cross_attn_token_to_image, first.cross_attn_image_to_token
    seen = model.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1) if mask is None else mask
    tokens = (embedding + seen).flatten(2).mT.contiguous()
    tokens = tokens[0] if len(tokens) == 1 else tokens
    positions = model.get_image_wide_positional_embeddings()[0].flatten(1).T.contiguous()
    placed = tokens + positions
    return SharedImage(
        tokens=tokens,
        positions=positions,
        keys=_heads(into.k_proj(placed), into).contiguous(),
        values=_heads(into.v_proj(tokens), into).contiguous(),
        queries=_heads(back.q_proj(placed), back).contiguous(),
        grid=(int(embedding.shape[-2]), int(embedding.shape[-1])),
    )


def decode_prompts(model: Any, image: SharedImage, prompts: Tensor, *, multimask: bool) -> tuple[Tensor, Tensor]:
    """What SamModel's mask decoder answers, up to rounding.

    The decoder lets a few tokens (one for the IoU, one for each mask, and the prompt's) and the image's
    thousands attend to each other in turn.  Three things are rearranged and nothing is approximated:

    - The first layer's image tokens do not depend on the prompt yet: they are projected once, not N times.
    - In later layers a projection W of the image tokens x is carried to the short side of the product:
      scores ``q (W x) = (q W) x``, values ``sum_i a_i (W x_i) = W (sum_i a_i x_i)``.
    - A transposed convolution whose stride is its kernel's size is a matrix product; so written it leaves
      the channels last, where the layer norm needs them.

    Args:
        model: a SamModel.
        image: from `share_image`.
        prompts: (N, P, C) from the model's prompt encoder.
        multimask: the candidates for an ambiguous prompt instead of the single mask.

    Returns:
        Logits (N, M, 4 h, 4 w) and estimated IoUs (N, M).
    """
    decoder = model.mask_decoder
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    places = torch.cat([own.expand(len(prompts), -1, -1), prompts], dim=1)
    first, *later = decoder.transformer.layers
    tokens, pixels = _first_layer(first, places, image)
    for layer in later:
        tokens, pixels = _later_layer(layer, tokens, pixels, places, image.positions)
    answers = [0, *(range(2, 1 + decoder.num_mask_tokens) if multimask else [1])]
    tokens, places = tokens[:, answers], places[:, answers]
    attention = decoder.transformer.final_attn_token_to_image
    found = _collect(attention, tokens + places, pixels + image.positions, pixels)
    tokens = decoder.transformer.layer_norm_final_attn(tokens + found)
    heads = decoder.output_hypernetworks_mlps[1:] if multimask else decoder.output_hypernetworks_mlps[:1]
    filters = torch.stack([head(tokens[:, 1 + i]) for i, head in enumerate(heads)], dim=1)
    iou = decoder.iou_prediction_head(tokens[:, 0])
    return _draw(decoder, pixels, filters, image.grid), iou[:, 1:] if multimask else iou[:, :1]


def _first_layer(layer: Any, places: Tensor, image: SharedImage) -> tuple[Tensor, Tensor]:
    """All prompts at once against image tokens that they share."""
    tokens = layer.layer_norm1(_among(layer.self_attn, places, places))
    attention = layer.cross_attn_token_to_image
    query = _heads(attention.q_proj(tokens + places), attention)
    weights = _times(attention.scaling * query, image.keys.mT).softmax(-1)
    found = _times(weights, image.values)
    tokens = layer.layer_norm2(tokens + attention.out_proj(_join(found)))
    tokens = layer.layer_norm3(tokens + layer.mlp(tokens))
    attention = layer.cross_attn_image_to_token
    key = _heads(attention.k_proj(tokens + places), attention)
    scores = _times(attention.scaling * key, image.queries.mT).transpose(0, 1)
    pixels = _spread(attention, scores, tokens, image.tokens)
    return tokens, layer.layer_norm4(pixels)


def _later_layer(
    layer: Any, tokens: Tensor, pixels: Tensor, places: Tensor, positions: Tensor
) -> tuple[Tensor, Tensor]:
    """Each prompt against image tokens of its own."""
    tokens = layer.layer_norm1(tokens + _among(layer.self_attn, tokens + places, tokens))
    placed = pixels + positions
    found = _collect(layer.cross_attn_token_to_image, tokens + places, placed, pixels)
    tokens = layer.layer_norm2(tokens + found)
    tokens = layer.layer_norm3(tokens + layer.mlp(tokens))
    attention = layer.cross_attn_image_to_token
    key = _heads(attention.k_proj(tokens + places), attention).transpose(0, 1)
    query = attention.scaling * key @ _rows(attention.q_proj.weight, attention)
    bias = attention.scaling * key @ _rows(attention.q_proj.bias, attention)
    scores = (query.flatten(1, 2) @ placed.mT).view(*key.shape[:-1], -1) + bias
    pixels = _spread(attention, scores, tokens, pixels)
    return tokens, layer.layer_norm4(pixels)


def _times(rows: Tensor, shared: Tensor) -> Tensor:
    """Rows (heads, N, T, K) times a matrix (heads, K, M) that all N share, or (heads, N, K, M) of their own."""
    if shared.ndim == 4:
        return rows @ shared
    return (rows.flatten(1, 2) @ shared).view(*rows.shape[:-1], -1)


def _among(attention: Any, query: Tensor, value: Tensor) -> Tensor:
    """Prompt tokens (N, T, C) attend to each other: too few to rearrange anything."""
    found: Tensor = attention(query=query[None], key=query[None], value=value[None])[0][0]
    return found


def _collect(attention: Any, tokens: Tensor, placed: Tensor, pixels: Tensor) -> Tensor:
    """Prompt tokens (N, T, C) attend to image tokens (N, L, C): with places they are found, without read.

    The keys' bias adds the same to all of a token's scores, which softmax does not see.
    """
    query = _heads(attention.q_proj(tokens), attention).transpose(0, 1)
    folded = attention.scaling * query @ _rows(attention.k_proj.weight, attention)
    weights = (folded.flatten(1, 2) @ placed.mT).softmax(-1)
    read = (weights @ pixels).view_as(folded)
    values = read @ _rows(attention.v_proj.weight, attention).mT
    found: Tensor = attention.out_proj(_join(values.transpose(0, 1)) + attention.v_proj.bias)
    return found


def _spread(attention: Any, scores: Tensor, tokens: Tensor, pixels: Tensor) -> Tensor:
    """Image tokens (L, C) or (N, L, C) take from prompt tokens (N, T, C), by scores (N, heads, T, L)."""
    values = _heads(attention.v_proj(tokens), attention).transpose(0, 1)
    carried = values @ attention.out_proj.weight.T.view(scores.shape[1], -1, pixels.shape[-1])
    # The weights of a head add up to one, so that each head can bring its share of the bias.
    carried = carried + attention.out_proj.bias / scores.shape[1]
    weights = scores.softmax(2).flatten(1, 2)
    before = pixels.expand(len(tokens), *pixels.shape[-2:])
    return torch.baddbmm(before, weights.mT, carried.flatten(1, 2))


def _draw(decoder: Any, pixels: Tensor, filters: Tensor, grid: tuple[int, int]) -> Tensor:
    """Image tokens (N, L, C), upscaled four times, through each prompt's filters (N, M, C / 8)."""
    norm = decoder.upscale_layer_norm
    fine = _scatter(decoder.upscale_conv1, pixels.flatten(0, 1))
    fine = decoder.activation(layer_norm(fine, norm.normalized_shape, norm.weight, norm.bias, norm.eps))
    fine = decoder.activation(_scatter(decoder.upscale_conv2, fine))
    logits: Tensor = filters @ fine.view(len(pixels), -1, fine.shape[-1]).mT
    # An image token's 16 pixels are consecutive: two by two, and each of these two by two.
    logits = logits.view(*logits.shape[:2], *grid, 2, 2, 2, 2).permute(0, 1, 2, 4, 6, 3, 5, 7)
    return logits.reshape(*logits.shape[:2], 4 * grid[0], 4 * grid[1])


def _scatter(convolution: Any, pixels: Tensor) -> Tensor:
    """A 2 x 2 transposed convolution of stride 2 on rows (K, C): rows (4 K, C'), by row and column."""
    weight = convolution.weight.permute(0, 2, 3, 1).flatten(1)
    fine: Tensor = torch.addmm(convolution.bias.repeat(4), pixels, weight)
    return fine.view(-1, convolution.out_channels)


def _heads(rows: Tensor, attention: Any) -> Tensor:
    """(..., L, heads * d) to (heads, ..., L, d)."""
    return rows.view(*rows.shape[:-1], attention.num_attention_heads, -1).movedim(-2, 0)


def _join(heads: Tensor) -> Tensor:
    """(heads, ..., L, d) to (..., L, heads * d)."""
    return heads.movedim(0, -2).flatten(-2)


def _rows(parameter: Tensor, attention: Any) -> Tensor:
    """A projection's weight to (heads, d, C); its bias to (heads, d, 1)."""
    columns = parameter.shape[1] if parameter.ndim == 2 else 1
    return parameter.view(attention.num_attention_heads, -1, columns)
