"""The network inside of a sampler's loop as a graph of its own: taken out, fed as it is while sampling, put back.

Converters do not enter the body of a `Loop`. Taken out, it is a graph like others, and what it is fed in real samplings
is what ranges can be chosen by.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from nanocv_cli.engine.sessions import new_session, session_options

LOOP = "Loop"
OF_EACH = 8  # evaluations of a sampling
# A graph's inputs by name, one row each.
Feed = dict[str, NDArray[Any]]
Convert = Callable[[onnx.ModelProto], onnx.ModelProto]


def inside_loop(model: onnx.ModelProto, convert: Convert) -> onnx.ModelProto:
    """What a function makes of a graph, or of the body of its loop where it has one; the given graph stays as it is."""
    body = LoopBody.of(model)
    return body.put_back(convert(body.graph)) if body else convert(model)


@dataclass(frozen=True)
class LoopBody:
    """The body of a graph's one loop.

    Attributes:
        whole: the graph with the loop.
        place: the loop's among its nodes.
    """

    whole: onnx.ModelProto
    place: int

    @classmethod
    def of(cls, model: onnx.ModelProto) -> "LoopBody | None":
        """The body of a graph's loop; None where it has none, or several."""
        places = [place for place, node in enumerate(model.graph.node) if node.op_type == LOOP]
        return cls(model, places[0]) if len(places) == 1 else None

    @cached_property
    def graph(self) -> onnx.ModelProto:
        """The body as a graph: its own inputs, then those that it takes from around the loop, by their names there."""
        body = _body_of(self._loop)
        graph = helper.make_graph(
            body.node, body.name, [*body.input, *self._from_around], list(body.output), body.initializer
        )
        return self._model(graph)

    def feeds(self, given: Sequence[Feed], most: int) -> list[Feed]:
        """What the body is fed in samplings: some evaluations of each, spread evenly over its way.

        Args:
            given: inputs of the whole graph, a sampling each; as many are made as are needed, spread evenly over these.
            most: feeds in all.
        """
        options = session_options(spinning=False)
        head, step = (new_session(model.SerializeToString(), options) for model in (self._head, self.graph))
        samplings = given[:: -(-len(given) * OF_EACH // most)]
        found = [list(self._fed(feed, head, step)) for feed in samplings]
        return [feed for fed in found for feed in fed[:: -(-len(fed) // OF_EACH)]]

    def put_back(self, body: onnx.ModelProto) -> onnx.ModelProto:
        """The whole graph with another body, which has the same inputs and outputs."""
        whole = onnx.ModelProto()
        whole.CopyFrom(self.whole)
        inner = _body_of(whole.graph.node[self.place])
        del inner.node[:], inner.initializer[:], inner.value_info[:]
        inner.node.extend(body.graph.node)
        inner.initializer.extend(body.graph.initializer)
        known = {(opset.domain, opset.version) for opset in whole.opset_import}
        whole.opset_import.extend(new for new in body.opset_import if (new.domain, new.version) not in known)
        return whole

    @property
    def _loop(self) -> onnx.NodeProto:
        return self.whole.graph.node[self.place]

    @property
    def _from_around(self) -> list[onnx.ValueInfoProto]:
        """What the body reads of the graph around it."""
        body, graph = _body_of(self._loop), self.whole.graph
        own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
        own |= {name for node in body.node for name in node.output}
        read = {name for node in body.node for name in node.input if name} - own
        return [value for values in (graph.input, graph.value_info) for value in values if value.name in read]

    @property
    def _head(self) -> onnx.ModelProto:
        """All before the loop, which answers what that begins with."""
        graph = self.whole.graph
        made = {name for node in graph.node[: self.place] for name in node.output}
        wanted = [helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(self._loop.input) if name in made]
        nodes = list(graph.node[: self.place])
        return self._model(helper.make_graph(nodes, "head", list(graph.input), wanted, graph.initializer))

    def _fed(self, given: Feed, head: Any, step: Any) -> Iterator[Feed]:
        """The body's inputs, evaluation by evaluation."""
        known = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.whole.graph.initializer} | given
        names = [output.name for output in head.get_outputs()]
        takes = {value.name for value in head.get_inputs()}
        known |= zip(names, head.run(names, {name: known[name] for name in takes}), strict=True)
        trips, going, *state = (known[name] for name in self._loop.input)
        around = {value.name: known[value.name] for value in self._from_around}
        inputs = [value.name for value in _body_of(self._loop).input]
        used = {value.name for value in step.get_inputs()}
        for index in range(int(trips)):
            feed = dict(zip(inputs, (np.array(index), going, *state), strict=True)) | around
            yield {name: array for name, array in feed.items() if name in used}
            going, *state = step.run(None, {name: array for name, array in feed.items() if name in used})
            if not going:
                return

    def _model(self, graph: onnx.GraphProto) -> onnx.ModelProto:
        model = helper.make_model(graph, opset_imports=self.whole.opset_import, ir_version=self.whole.ir_version)
        model.functions.extend(self.whole.functions)
        return model


def _body_of(loop: onnx.NodeProto) -> onnx.GraphProto:
    body: onnx.GraphProto = next(attribute.g for attribute in loop.attribute if attribute.name == "body")
    return body
