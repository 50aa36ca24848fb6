"""`Family`: the record that a symmetry table fills in, and the notation it is written in.

A table assigns every axis of every tensor of an architecture to a *group*: one index set that several axes share, so that
a change of its order (or of its basis) leaves the model's function alone when it is made on all of them.  It is written as
text, a row a line, columns two spaces apart.

Rows of `groups`: ``name  kind  size  [in OUTER]  [norm KIND]  [if CONDITION]``; of rows with one name the first whose
condition holds counts.  Kinds:

    permutation, permutation+signs, permutation+scales, permutation+signs+scales      order, signs, scales (positive)
    invertible                     any basis of the space
    planes                         rotation and scale of each RoPE plane (i, i + size/2)
    plane signs                    a sign for each RoPE plane
    tokens, positions, labels, fixed     no symmetry: what the entries are is given from outside

``in OUTER`` nests a group: it is there once for every entry of OUTER (query heads in the kv head that they share).  ``norm``
says what normalises the index: rms, layer, post (LayerNorm inside the residual path) or batch.
``same  A  B  [if CONDITION]`` makes two groups one.

Rows of `tensors`: ``name  axes  [if CONDITION]``, axes from left to right, a space apart:

    g        the axis writes group g: its entries make the index         (changed by E)
    <g       the axis reads group g: its entries consume the index       (changed by the inverse of E, transposed)
    =g       the axis goes along with g: reordered, never signed or scaled (gains of norms, statistics, gates)
    (a b)    the axis is factorised, outer first;  <(a b) is (<a <b)
    [x|y]    the axis is a concatenation of segments
    .        no group
    -        a scalar

``name.weight+bias`` is a weight and its bias, which lies along the axis that is not read; ``+bias?`` where not every model
has it.  ``module  layer norm: g`` is weight and bias, ``rms norm: g`` weight alone, ``batch norm: g`` weight, bias and
statistics.  ``? words`` begins an optional block, up to the next empty line: all its tensors are there, or none.
A single row of an optional tensor begins with ``?``.  ``tied  A  B  [if CONDITION]`` says that tensor A is stored as B.
Braces hold expressions over the loops' variables: ``res{s+1}``.  Sizes and conditions are expressions over the fields of
the config; ``architecture`` is the first of its architectures, ``num_labels`` the number of its labels, ``predicts_tokens``
whether its head gives a number for every token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Family"]


@dataclass(frozen=True)
class Family:
    """One architecture's symmetry table.

    name: of the table.  model_types: the configs' ``model_type`` it is for.  loops: variable -> how often, an expression over
    the config and the variables before it.
    prefix: what names of the body begin with when the model has a head; bodies saved alone go without it.
    bodies: architectures without a head; output: the group that is then the model's output and stays as it is.
    defaults: config field -> its value when the config does not state it, text is an expression; also words of the table's
    own for what it asks of the config more than once.
    aliases: (regular expression, replacement) pairs from other names on disk or in memory to the table's.
    config_key: the field that a nested config would have this one in.
    requires: a condition that transformers holds configs to and that follows from no size.
    """

    name: str
    model_types: tuple[str, ...]
    groups: str
    tensors: str
    loops: Mapping[str, str]
    prefix: str = ""
    bodies: tuple[str, ...] = ()
    output: str = ""
    defaults: Mapping[str, object] = field(default_factory=dict)
    aliases: tuple[tuple[str, str], ...] = ()
    config_key: str = ""
    requires: str = "True"
