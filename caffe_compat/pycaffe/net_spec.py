"""Nets written in Python: ``NetSpec``, ``layers``, ``params``, ``to_proto``.

::

    n = NetSpec()
    n.data = layers.Input(shape=dict(dim=[1, 3, 227, 227]))
    n.conv1 = layers.Convolution(n.data, kernel_size=11, num_output=96, weight_filler=dict(type="xavier"))
    n.relu1 = layers.ReLU(n.conv1, in_place=True)
    print(n.to_proto())

Source: BVLC Caffe 1.0, ``python/caffe/net_spec.py`` (behaviour only).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from functools import cache
from typing import Any

from caffe_compat.errors import UsageError, nearest
from caffe_compat.proto import caffe_pb2

__all__ = ["Function", "NetSpec", "Top", "assign_proto", "layers", "param_name_dict", "params", "to_proto"]


@cache
def _param_names() -> dict[str, str]:
    found = {}
    for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields:
        if field.name.endswith("_param") and field.message_type is not None:
            found[field.message_type.name.removesuffix("Parameter")] = field.name.removesuffix("_param")
    return found


def param_name_dict() -> dict[str, str]:
    """Layer types that have parameters, to the name of the field that holds them (without ``_param``)."""
    return dict(_param_names())


def assign_proto(proto: Any, name: str, val: Any) -> None:
    """Set a field of a message from Python values: lists fill repeated fields, dicts fill messages.

    Raises:
        UsageError: the message has no such field, or the value does not fit it.
    """
    field = proto.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        raise UsageError(
            f"{proto.DESCRIPTOR.name} has no field '{name}'{nearest(name, proto.DESCRIPTOR.fields_by_name)}"
        )
    target = getattr(proto, name)
    try:
        if hasattr(target, "extend"):
            values = val if isinstance(val, list | tuple) else [val]
            for value in values:
                if isinstance(value, Mapping):
                    _assign_all(target.add(), value)
                else:
                    target.append(value)
        elif isinstance(val, Mapping):
            target.SetInParent()
            _assign_all(target, val)
        elif field.message_type is not None:
            target.CopyFrom(val)
        else:
            setattr(proto, name, val)
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{proto.DESCRIPTOR.name}.{name} cannot be {val!r}: {error}") from error


def _assign_all(proto: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        assign_proto(proto, name, value)


class Top:
    """One output of a layer.

    Attributes:
        fn: the layer; ``n``: which of its outputs.
    """

    def __init__(self, fn: Function, n: int) -> None:
        self.fn, self.n = fn, n

    def to_proto(self) -> Any:
        """The ``NetParameter`` of everything that this output depends on."""
        return to_proto(self)

    def write(self, net: _Writer) -> None:
        """Add the layer and what it depends on to a net that is being written."""
        self.fn.write(net)


class Function:
    """A layer: its type, its bottoms and its parameters.

    Raises:
        TypeError: a bottom is not a :class:`Top`.
    """

    def __init__(self, type_name: str, inputs: tuple[Any, ...], params: dict[str, Any]) -> None:
        for index, bottom in enumerate(inputs):
            if not isinstance(bottom, Top):
                raise TypeError(f"{type_name} input {index} is not a Top (type is {type(bottom)})")
        self.type_name, self.inputs, self.params = type_name, inputs, dict(params)
        self.ntops = int(self.params.pop("ntop", 1))
        self.in_place = bool(self.params.pop("in_place", False))
        self.tops = tuple(Top(self, index) for index in range(self.ntops))

    def write(self, net: _Writer) -> None:
        """Add the layer and what it depends on to a net that is being written."""
        if self in net.layers:
            return
        for bottom in self.inputs:
            bottom.write(net)
        layer = caffe_pb2.LayerParameter(type=self.type_name)
        layer.bottom.extend(net.layers[bottom.fn].top[bottom.n] for bottom in self.inputs)
        layer.top.extend(layer.bottom if self.in_place else [net.name(top, self.type_name) for top in self.tops])
        layer.name = net.name(self.tops[0] if self.tops else self, self.type_name)
        own = _param_names().get(self.type_name)
        for name, value in self.params.items():
            target = layer
            if own and not name.endswith("param") and name in _fields(layer, f"{own}_param"):
                target = getattr(layer, f"{own}_param")
            try:
                assign_proto(target, name, value)
            except UsageError as error:
                raise UsageError(f"layer '{layer.name}' ({self.type_name}): {error}") from error
        net.layers[self] = layer

    def to_proto(self) -> Any:
        """The ``NetParameter`` of this layer and everything that it depends on."""
        return to_proto(self)


def _fields(layer: Any, name: str) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = layer.DESCRIPTOR.fields_by_name[name].message_type.fields_by_name
    return fields


class _Writer:
    """Layers written so far and the names given."""

    def __init__(self, names: Mapping[Any, str]) -> None:
        self.layers: OrderedDict[Function, Any] = OrderedDict()
        self._names, self._counts = dict(names), Counter[str]()

    def name(self, thing: Top | Function, type_name: str) -> str:
        if thing not in self._names:
            self._counts[type_name] += 1
            self._names[thing] = f"{type_name}{self._counts[type_name]}"
        name: str = self._names[thing]
        return name

    def result(self) -> Any:
        return caffe_pb2.NetParameter(layer=list(self.layers.values()))


def to_proto(*tops: Top | Function) -> Any:
    """The ``NetParameter`` that computes these tops; layers are named by type and number."""
    writer = _Writer({})
    for top in tops:
        top.write(writer)
    return writer.result()


class NetSpec:
    """A net whose tops are attributes (or items): ``n.conv1 = layers.Convolution(n.data, ...)`` names layer and top."""

    tops: OrderedDict[str, Any]

    def __init__(self) -> None:
        super().__setattr__("tops", OrderedDict())

    def __setattr__(self, name: str, value: Any) -> None:
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self.tops:
            raise AttributeError(f"the net has no top '{name}'{nearest(name, self.tops)}")
        return self.tops[name]

    def __delattr__(self, name: str) -> None:
        del self.tops[name]

    __setitem__ = __setattr__
    __delitem__ = __delattr__

    def __getitem__(self, name: str) -> Any:
        return self.tops[name]

    def to_proto(self) -> Any:
        """The ``NetParameter``: every assigned top in order, what it depends on first.

        Raises:
            UsageError: a value does not fit the field it was given for.
        """
        writer = _Writer({top: name for name, top in self.tops.items()})
        for top in self.tops.values():
            top.write(writer)
        return writer.result()


class Layers:
    """``layers.Convolution(bottom, ..., name=value, ...)`` and so on for every layer type.

    ``ntop`` (1) is the number of tops, ``in_place`` (False) makes the tops the bottoms.  The result is a :class:`Top`,
    a tuple of them, or for ``ntop=0`` the :class:`Function` itself.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def layer_fn(*args: Any, **kwargs: Any) -> Any:
            function = Function(name, args, kwargs)
            if not function.tops:
                return function
            return function.tops[0] if len(function.tops) == 1 else function.tops

        return layer_fn


class Parameters:
    """``params.Pooling.MAX``: constants of the messages, here of ``PoolingParameter``."""

    def __getattr__(self, name: str) -> Any:
        message = getattr(caffe_pb2, f"{name}Parameter", None)
        if message is None:
            raise AttributeError(f"there is no message {name}Parameter")
        return message


layers = Layers()
params = Parameters()
