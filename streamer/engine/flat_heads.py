"""The bundled model's heads over flat batches: what `IndependentLabelModel.compare` defines.

Enters: features of texts and of labels. Leaves: logits. Each label of each text costs a row here, so matrix products
are as the encoder's: weights laid out once, in the encoder's number format, and what the text alone decides is computed
once a text. Unit vectors, their products and the last sum stay in float32.

Must not know: tokens, label sets.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize

from streamer.engine.flat import FlatKernels
from streamer.engine.independent import IndependentLabelModel
from streamer.engine.linear import projection


class FlatHeads:
    """Projectors and scorer of a model whose encoder computes in `dtype`."""

    def __init__(self, model: IndependentLabelModel, kernels: FlatKernels, dtype: torch.dtype) -> None:
        self._model = model
        self._kernels = kernels
        self._dtype = dtype
        self._text = _Residual(model.text_projector, dtype)
        self._label = _Residual(model.label_projector, dtype)
        wide, self._last = cast(nn.Linear, model.scorer[0]), cast(nn.Linear, model.scorer[2])
        weight, hidden = wide.weight.to(dtype), wide.in_features // 3
        self._of_text = projection(weight[:, :hidden].contiguous(), cast(Tensor, wide.bias).to(dtype))
        self._of_pair = projection(weight[:, hidden:].contiguous(), None)

    def __call__(self, text_features: Tensor, of_text: Tensor, label_features: Tensor) -> Tensor:
        """text_features (texts, hidden), label_features (pairs, hidden), both float32; of_text (pairs,) is the text of
        each pair. Returns logits (pairs,), float32."""
        text = self._unit(self._text, text_features)
        label = self._unit(self._label, label_features)
        product = text[: len(text_features)][of_text] * label[: len(label_features)]
        wide = self._of_pair.plus(
            self._kernels.in_usual_size(torch.cat([label[: len(product)], product], dim=-1).to(self._dtype)),
            self._kernels.in_usual_size(self._of_text(text.to(self._dtype))[of_text]),
        )
        correction = self._last(gelu(wide[: len(product)].float())).squeeze(-1)
        return self._model.log_scale.exp() * product.sum(-1) + self._model.bias + cast(Tensor, correction)

    def _unit(self, projected: _Residual, features: Tensor) -> Tensor:
        """(rows, hidden) float32 -> the same, or more rows."""
        return normalize(projected(self._kernels.in_usual_size(features.to(self._dtype))).float(), dim=-1)


class _Residual:
    """`x + mlp(x)`."""

    def __init__(self, mlp: nn.Sequential, dtype: torch.dtype) -> None:
        wide, narrow = cast(nn.Linear, mlp[0]), cast(nn.Linear, mlp[2])
        self._wide, self._narrow = (
            projection(one.weight.to(dtype), cast(Tensor, one.bias).to(dtype)) for one in (wide, narrow)
        )

    def __call__(self, rows: Tensor) -> Tensor:
        return self._narrow.plus(self._wide.gelu(rows), rows)
