"""How much arithmetic an operation has beside multiply-adds: one table of rules for torch's and ONNX's operators.

The counts follow NVIDIA's Deep Learning Performance guide where it gives one (a ReLU is one operation per value, a 3x3
max-pool nine per output value); a function such as a sigmoid or an exponential counts as one operation.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """The kind of layer an operator is and its operations.

    Attributes:
        kind: see `Layer.kind`.
        per_output: operations for each output value.
        per_input: operations for each value of the first input.
    """

    kind: str
    per_output: int = 0
    per_input: int = 0


ACTIVATION = Rule("activation", per_output=1)
ELEMENTWISE = Rule("elementwise", per_output=1)
REDUCTION = Rule("reduction", per_input=1)
MOVEMENT = Rule("movement")
# A scale and a shift: mean and variance are constants at inference.
BATCH_NORM = Rule("norm", per_output=2)
# Mean (1), centring (1), variance (2), division (1), scale and shift (2).
LAYER_NORM = Rule("norm", per_output=7)
# Maximum, subtraction, exponential, sum, division.
SOFTMAX = Rule("softmax", per_output=5)
# Four products and three sums of the four neighbours.
BILINEAR = Rule("resize", per_output=7)
NEAREST = Rule("resize")
OTHER = Rule("other")


def _each(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


TORCH: dict[str, Rule] = {
    **_each(
        ACTIVATION,
        "relu relu6 hardtanh hardswish hardsigmoid sigmoid silu gelu tanh elu leaky_relu softplus mish prelu",
    ),
    **_each(
        ELEMENTWISE,
        "add sub rsub mul div neg abs exp log log2 log10 log1p expm1 sqrt rsqrt reciprocal pow square sin cos atan "
        "atan2 erf clamp clamp_min clamp_max maximum minimum eq ne lt le gt ge logical_and logical_or logical_not "
        "bitwise_and bitwise_or bitwise_not where floor ceil round trunc sign remainder floor_divide masked_fill lerp "
        "addcmul addcdiv",
    ),
    **_each(
        REDUCTION,
        "mean sum amax amin max min argmax argmin prod all any var std linalg_vector_norm cumsum _adaptive_avg_pool2d",
    ),
    **_each(
        MOVEMENT,
        "clone cat stack roll constant_pad_nd reflection_pad2d replication_pad2d index gather _to_copy copy index_put "
        "index_fill index_select scatter select_scatter slice_scatter repeat repeat_interleave flip fill zero zeros "
        "ones full zeros_like ones_like full_like new_zeros new_ones new_full arange linspace eye embedding tril triu "
        "scalar_tensor pixel_shuffle pixel_unshuffle channel_shuffle im2col col2im one_hot lift_fresh as_strided",
    ),
    **_each(BATCH_NORM, "native_batch_norm _native_batch_norm_legit_no_training cudnn_batch_norm"),
    **_each(LAYER_NORM, "native_layer_norm native_group_norm _fused_rms_norm"),
    **_each(SOFTMAX, "_softmax _log_softmax _safe_softmax"),
    **_each(BILINEAR, "upsample_bilinear2d _upsample_bilinear2d_aa"),
    **_each(NEAREST, "upsample_nearest2d _upsample_nearest_exact2d"),
}

ONNX: dict[str, Rule] = {
    **_each(
        ACTIVATION,
        "Relu LeakyRelu Sigmoid HardSigmoid HardSwish Tanh Elu Selu Celu Gelu Mish Softplus Softsign Swish PRelu "
        "ThresholdedRelu",
    ),
    **_each(
        ELEMENTWISE,
        "Add Sub Mul Div Neg Abs Exp Log Sqrt Reciprocal Pow Sin Cos Tan Asin Acos Atan Sinh Cosh Clip Max Min Sum "
        "Mean Equal Less LessOrEqual Greater GreaterOrEqual And Or Not Xor Where Floor Ceil Round Mod Erf Sign IsNaN "
        "IsInf BitShift QuantizeLinear DequantizeLinear DynamicQuantizeLinear",
    ),
    **_each(
        REDUCTION,
        "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp "
        "ReduceLogSum ArgMax ArgMin GlobalAveragePool GlobalMaxPool CumSum",
    ),
    **_each(
        MOVEMENT,
        "Cast CastLike Concat Split Slice Gather GatherElements GatherND Scatter ScatterElements ScatterND Transpose "
        "Pad Expand Tile DepthToSpace SpaceToDepth OneHot ConstantOfShape Range EyeLike Trilu Compress",
    ),
    **_each(BATCH_NORM, "BatchNormalization"),
    **_each(LAYER_NORM, "LayerNormalization GroupNormalization InstanceNormalization RMSNormalization"),
    **_each(SOFTMAX, "Softmax LogSoftmax"),
}
