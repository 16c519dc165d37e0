"""Which operators ONNX Runtime's CUDA provider has kernels for, in some of its versions.

Facts of docs/OperatorKernels.md in ONNX Runtime at the tags v1.20.1 and v1.22.1 and where 1.24 left the main branch.
They agree with what cuda_execution_provider.cc registers there, but for NonMaxSuppression, which the document leaves
out.  Later versions have these kernels and more.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from caffe_compat.errors import UsageError, nearest

__all__ = ["CPU_INPUTS", "CPU_OUTPUTS", "TYPES", "VERSIONS", "Kernel", "kernels"]

VERSIONS = ("1.20", "1.22", "1.24")  #: of ONNX Runtime, oldest first
TYPES = {
    "FLOAT": "f",
    "UINT8": "B",
    "INT8": "b",
    "UINT16": "H",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "BOOL": "?",
    "FLOAT16": "e",
    "DOUBLE": "d",
    "UINT32": "I",
    "UINT64": "Q",
    "BFLOAT16": "E",
}  #: of tensors: ONNX's name, and the letter of it below

_CPU_INPUTS = """
ConstantOfShape 0, CumSum 1, Dropout 12, Expand 1, GRU 4, If 0, LSTM 4, Loop 01, MatMulInteger 23,
NonMaxSuppression 234, OneHot 12, Pad 123, RNN 4, Range 012, ReduceL1 1, ReduceL2 1, ReduceLogSum 1,
ReduceLogSumExp 1, ReduceMax 1, ReduceMean 1, ReduceMin 1, ReduceProd 1, ReduceSum 1, ReduceSumSquare 1, Reshape 1,
Resize 123, Slice 1234, Split 1, Squeeze 1, Tile 1, TopK 1, Trilu 1, Unsqueeze 1
"""
CPU_INPUTS: Mapping[str, tuple[int, ...]] = {
    name: tuple(map(int, digits)) for name, digits in (entry.split() for entry in _CPU_INPUTS.split(","))
}  #: inputs that CUDA kernels read on the CPU
CPU_OUTPUTS: Mapping[str, tuple[int, ...]] = {"Shape": (0,), "Size": (0,)}  #: outputs that CUDA kernels write there

# Operator, opsets ("13+" is 13 alone: the kernel was registered before a later form of the operator was known), types
# by the constraint's name, and the versions that have it if not all.
_KERNELS = """
Abs 13+ T=BHIQbdefhiq @1.20
Abs 13+ T=BEHIQbdefhiq @1.22 1.24
Add 13 T=EIQdefiq
Add 14+ T=EIQdefiq @1.20
Add 14+ T=BEHIQbdefhiq @1.22 1.24
And 7+ T=? T1=?
ArgMax 13+ T=def @1.22 1.24
ArgMin 13+ T=def @1.22 1.24
Attention 23+ T1=Eef T2=Eef U=?Eef @1.24
AveragePool 11+ T=def @1.20 1.22
AveragePool 11-18 T=def @1.24
AveragePool 19-21 T=def @1.24
AveragePool 22+ T=Edef @1.24
BatchNormalization 9-13 T=def
BatchNormalization 14 T=def U=def
BatchNormalization 15+ T=def T1=def T2=def
Cast 13-18 T1=?BEHIQbdefhiq T2=?BEHIQbdefhiq
Cast 19+ T1=?BEHIQbdefhiq T2=?BEHIQbdefhiq @1.20 1.22
Cast 19-20 T1=?BEHIQbdefhiq T2=?BEHIQbdefhiq @1.24
Cast 21-22 T1=?BEHIQbdefhiq T2=?BEHIQbdefhiq @1.24
Cast 23+ T1=?BEHIQbdefhiq T2=?BEHIQbdefhiq @1.24
Ceil 13+ T=def
Clip 13+ T=BQbdefq
Compress 11+ T=?BEHIQbdefhiq T1=?
Concat 13+ T=?BEHIQbdefhiq
ConstantOfShape 9+ T1=q T2=?BEHIQbdefhiq
Conv 11+ T=def @1.20 1.22
Conv 11-21 T=def @1.24
Conv 22+ T=Edef @1.24
ConvTranspose 11+ T=def
Cos 7+ T=def
CumSum 11-13 T=IQdfiq T2=iq
CumSum 14+ T=IQdefiq T2=iq
DepthToSpace 13+ T=def
DequantizeLinear 13-18 T=Bb
DequantizeLinear 19-20 T1=Bb T2=ef
DequantizeLinear 21+ T1=Bb T2=ef
Div 13 T=EIQdefiq
Div 14+ T=EIQdefiq @1.20
Div 14+ T=BEHIQbdefhiq @1.22 1.24
Dropout 13+ T=Edef T1=Edef T2=?
Einsum 12+ T=def
Elu 6+ T=def
Equal 13+ T=?IQdefiq T1=?
Erf 13+ T=Edef
Exp 13+ T=Edef
Expand 13+ T=?BEHIQbdefhiq
EyeLike 9+ T1=Qdfiq T2=Qdfiq
Flatten 13+ T=?BEHIQbdefhiq
Floor 13+ T=def
GRU 7-13 T=def T1=i
GRU 14+ T=def T1=i
Gather 13+ T=?BEHIQbdefhiq Tind=iq
GatherElements 13+ T=?BEHIQbdefhiq Tind=iq
GatherND 13+ T=?Edefq indices=q
Gelu 20+ T=def @1.20 1.22
Gelu 20+ T=Edef @1.24
Gemm 13+ T=Edef
GlobalAveragePool 1+ T=def
GlobalMaxPool 1+ T=def
Greater 13+ T=IQdefiq T1=?
GreaterOrEqual 12-15 T=IQdefiq T1=?
GreaterOrEqual 16+ T=IQdefiq T1=?
GridSample 16+ T1=f T2=f
HardSigmoid 6-21 T=def @1.24
HardSigmoid 6+ T=def @1.20 1.22
HardSigmoid 22+ T=Edef @1.24
HardSwish 14-21 T=def @1.24
HardSwish 22+ T=Edef @1.24
Identity 13 T=?BEHIQbdefhiq
Identity 14-18 V=?BEHIQbdefhiq
Identity 19+ V=?BEHIQbdefhiq
If 13-18 B=? V=?BEHIQbdefhiq
If 19+ B=? V=?BEHIQbdefhiq
InstanceNormalization 6+ T=def
IsInf 10-19 T1=df T2=?
IsInf 20+ T1=Edef T2=?
IsNaN 13-19 T1=Edef T2=?
IsNaN 20+ T1=Edef T2=?
LRN 13+ T=def
LSTM 7-13 T=def T1=i
LSTM 14+ T=def T1=i
LayerNormalization 17+ T=Edef U=f
LeakyRelu 6-15 T=def
LeakyRelu 16+ T=def
Less 13+ T=IQdefiq T1=?
LessOrEqual 12-15 T=IQdefiq T1=?
LessOrEqual 16+ T=IQdefiq T1=?
Log 13+ T=def
LogSoftmax 13+ T=def
Loop 13-18 B=? I=q V=?BEHIQbdefhiq
Loop 19+ B=? I=q V=?BEHIQbdefhiq
MatMul 13+ T=Edef
MatMulInteger 10+ T1=b T2=b T3=i
Max 13+ T=EIQdefiq
MaxPool 12+ I=q T=Bbdef
Min 13+ T=EIQdefiq
Mod 13+ T=EIQdefiq
Mul 13 T=EIQdefiq
Mul 14+ T=EIQdefiq @1.20
Mul 14+ T=BEHIQbdefhiq @1.22 1.24
Neg 13+ T=Ebdefhiq
NonMaxSuppression 11+
NonZero 13+ T=?Befiq
Not 1+ T=?
OneHot 11+ T1=iq T2=iq T3=efq
Or 7+ T=? T1=?
PRelu 9-15 T=def
PRelu 16+ T=def
Pad 13-17 T=?def
Pad 18+ T=?def
Pow 13-14 T=defiq T1=defiq @1.20 1.22
Pow 13-14 T=Edefiq T1=defiq @1.24
Pow 15+ T=defiq T1=defiq @1.20 1.22
Pow 15+ T=Edefiq T1=Edefiq @1.24
QuantizeLinear 13-18 T1=f T2=Bb
QuantizeLinear 19-20 T1=ef T2=Bb
QuantizeLinear 21+ T1=ef T2=Bb
RMSNormalization 23+ T=Edef V=Edef @1.24
RNN 7-13 T=def T1=i
RNN 14+ T=def T1=i
RandomNormal 1+ T=def
RandomNormalLike 1+ T1=?BEHIQbdefhiq T2=def
RandomUniform 1+ T=def
RandomUniformLike 1+ T1=?BEHIQbdefhiq T2=def
Range 11+ T=dfhiq
Reciprocal 13+ T=def
ReduceL1 1-17 T=defi
ReduceL1 18+ T=defi
ReduceL2 1-17 T=defi
ReduceL2 18+ T=defi
ReduceLogSum 1-17 T=def
ReduceLogSum 18+ T=def
ReduceLogSumExp 1-17 T=def
ReduceLogSumExp 18+ T=def
ReduceMax 1-17 T=defiq
ReduceMax 18+ T=defiq
ReduceMean 1-17 T=defi
ReduceMean 18+ T=defi
ReduceMin 1-17 T=Bbdefiq
ReduceMin 18+ T=Bbdefiq
ReduceProd 1-17 T=defi
ReduceProd 18+ T=defi
ReduceSum 13+ T=Edefiq
ReduceSumSquare 1-17 T=def
ReduceSumSquare 18+ T=def
Relu 13 T=Edef
Relu 14+ T=Edef
Reshape 13 T=?BEHIQbdefhiq shape=q
Reshape 14-18 T=?BEHIQbdefhiq shape=q
Reshape 19+ T=?BEHIQbdefhiq shape=q @1.20 1.22
Reshape 19-20 T=?BEHIQbdefhiq shape=q @1.24
Reshape 21-22 T=?BEHIQbdefhiq shape=q @1.24
Reshape 23+ T=?BEHIQbdefhiq shape=q @1.24
Resize 13-17 T1=Bdefi
Resize 18+ T1=Bdefi
ReverseSequence 10+ T=?BEHIQbdefhiq
RoiAlign 10+ T1=df T2=q
RotaryEmbedding 23+ M=q T=Eef @1.24
Round 11+ T=def
Scan 11-15 V=?BEHIQbdefhiq
Scan 16-18 V=?BEHIQbdefhiq
Scan 19+ V=?BEHIQbdefhiq
ScatterElements 13-15 T=?BEHIQbdefhiq Tind=iq
ScatterElements 16-17 T=?BEHIQbdefhiq Tind=iq
ScatterElements 18+ T=?BEHIQbdefhiq Tind=iq
ScatterND 13-15 T=?BEHIQbdefhiq
ScatterND 16-17 T=?BEHIQbdefhiq
ScatterND 18+ T=?BEHIQbdefhiq
Selu 6+ T=def
Shape 13-14 T=?BEHIQbdefhiq T1=q
Shape 15-18 T=?BEHIQbdefhiq T1=q
Shape 19+ T=?BEHIQbdefhiq T1=q @1.20 1.22
Shape 19-20 T=?BEHIQbdefhiq T1=q @1.24
Shape 21-22 T=?BEHIQbdefhiq T1=q @1.24
Shape 23+ T=?BEHIQbdefhiq T1=q @1.24
Shrink 9+ T=BHIQbdefhiq
Sigmoid 13+ T=Edef
Sign 13+ T=BHIQbdefhiq @1.20
Sign 13+ T=BEHIQbdefhiq @1.22 1.24
Sin 7+ T=def
Size 13+ T=?BEHIQbdefhiq T1=q
Slice 13+ T=?BEHIQbdefhiq Tind=iq
Softmax 13+ T=Edef
Softplus 1+ T=def
Softsign 1+ T=def
SpaceToDepth 13+ T=def
Split 13-17 T=?BEHIQbdefhiq
Split 18+ T=?BEHIQbdefhiq
Sqrt 13+ T=Edef
Squeeze 13+ T=?BEHIQbdefhiq @1.20 1.22
Squeeze 13-20 T=?BEHIQbdefhiq @1.24
Squeeze 21-22 T=?BEHIQbdefhiq @1.24
Squeeze 23+ T=?BEHIQbdefhiq @1.24
Sub 13 T=EIQdefiq
Sub 14+ T=EIQdefiq @1.20
Sub 14+ T=BEHIQbdefhiq @1.22 1.24
Sum 13+ T=Edef
Tanh 13+ T=Edef
ThresholdedRelu 10+ T=def
Tile 13+ T=Edefiq T1=q
TopK 11+ I=q T=defiq
Transpose 13-20 T=?BEHIQbdefhiq @1.24
Transpose 13+ T=?BEHIQbdefhiq @1.20 1.22
Transpose 21-22 T=?BEHIQbdefhiq @1.24
Transpose 23+ T=?BEHIQbdefhiq @1.24
Trilu 14+ T=?BEHIQbdefhiq
Unsqueeze 13-20 T=?BEHIQbdefhiq @1.24
Unsqueeze 13+ T=?BEHIQbdefhiq @1.20 1.22
Unsqueeze 21-22 T=?BEHIQbdefhiq @1.24
Unsqueeze 23+ T=?BEHIQbdefhiq @1.24
Where 9-15 B=? T=Bdefiq
Where 16+ B=? T=BEdefiq
Xor 7+ T=? T1=?
"""


@dataclass(frozen=True)
class Kernel:
    """A kernel of the CUDA provider.

    Attributes:
        first, last: forms of the operator, by the opset that brought them, that it computes.
        types: letters of the types that it takes, by the name of the constraint or of the input.
    """

    first: int
    last: int
    types: Mapping[str, str]

    def fits(self, since: int) -> bool:
        """Whether it computes the form of the operator that came with opset ``since``."""
        return self.first <= since <= self.last


@functools.cache
def kernels(version: str) -> Mapping[str, tuple[Kernel, ...]]:
    """All kernels for ONNX's own operators of opset 13 and later, by operator.

    Raises:
        UsageError: no table for this version of ONNX Runtime.
    """
    if version not in VERSIONS:
        known = ", ".join(VERSIONS)
        raise UsageError(f"no table of kernels for ONNX Runtime {version}, only {known}{nearest(version, VERSIONS)}")
    found: dict[str, list[Kernel]] = {}
    for line in _KERNELS.split("\n"):
        entry, _, versions = line.partition("@")
        words = entry.split()
        if not words or (versions and version not in versions.split()):
            continue
        first, _, last = words[1].rstrip("+").partition("-")
        types = dict(word.split("=") for word in words[2:])
        found.setdefault(words[0], []).append(Kernel(int(first), int(last or first), types))
    return {name: tuple(entries) for name, entries in found.items()}
