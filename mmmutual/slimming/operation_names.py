"""Public names of torch's operations, by what they do with channels; a function and a method of a name do the same.

Underscores around a name are left out: ``add`` stands for ``torch.add``, ``Tensor.add_`` and ``Tensor.__add__`` too.
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ELEMENTWISE = _names("""
    abs add addcdiv addcmul and bfloat16 bitwise_and bitwise_not bitwise_or bool celu clamp clamp_max clamp_min clip
    clone contiguous copy cos cpu cuda data detach div divide double dropout dropout2d elu empty_like eq erf exp expm1
    fill float floor floor_divide floordiv fmod full_like ge gelu gt half hardshrink hardsigmoid hardswish hardtanh iadd
    iand idiv imul int invert ior isfinite isinf isnan isub itruediv le leaky_relu lerp log log10 log1p log2 logical_and
    logical_not logical_or logit logsigmoid long lt masked_fill max maximum min minimum mish mod mul multiply nan_to_num
    ne neg negative ones_like or pow prelu radd rand_like randn_like rdiv real reciprocal relu relu6 remainder rmul
    round rpow rsqrt rsub rtruediv selu sigmoid sign silu sin softplus softshrink softsign sqrt square sub subtract tan
    tanh tanhshrink threshold true_divide truediv trunc where xor zero zeros_like
""")
FIRST_ONLY = _names('to type type_as')  # their other arguments give no values
MOVES = _names("""
    H T cat chunk concat concatenate diagonal dsplit expand expand_as flatten flip gather getitem hsplit hstack
    index_select mT movedim narrow permute pixel_shuffle pixel_unshuffle repeat repeat_interleave reshape reshape_as
    roll rot90 select split split_with_sizes squeeze stack swapaxes swapdims t take_along_dim tensor_split tile
    transpose unbind unflatten unfold unsqueeze view view_as vsplit
""")
JOINED = _names('cat concat concatenate hstack stack')  # of several tensors
RESHAPED = {'view': 'reshape', 'view_as': 'reshape_as'}  # ids may lie otherwise in memory
ALONG_DIM = {  # position and default of the dimension along which they act; None are all
    **dict.fromkeys(_names('all amax amin any argmax argmin count_nonzero logsumexp max mean median min'), (1, None)),
    **dict.fromkeys(_names('nanmean prod std sum var'), (1, None)),
    **dict.fromkeys(_names('cumprod cumsum log_softmax logcumsumexp softmax softmin'), (1, None)),
    **dict.fromkeys(_names('argsort sort'), (1, -1)),
    **dict.fromkeys(_names('kthvalue topk'), (2, -1)),
    'norm': (2, None),
    'normalize': (2, 1),
}
SPATIAL = _names("""
    adaptive_avg_pool2d adaptive_max_pool2d avg_pool2d grid_sample instance_norm interpolate lp_pool2d max_pool2d
    max_pool2d_with_indices pad upsample
""")
PRODUCTS = _names('bmm matmul mm rmatmul')
CREATION = _names('shape_as_tensor new_empty new_full new_ones new_tensor new_zeros')
QUERIES = _names("""
    can_cast data_ptr deepcopy dim element_size format get_device has_names hash is_complex is_contiguous
    is_floating_point is_pinned is_same_size is_signed is_tensor len ndimension nelement numel reduce_ex register_hook
    repr requires_grad result_type size storage storage_offset str stride untyped_storage
""")
