"""The model that passes edit: a GraphSurgeon graph, and everything of the file that it would lose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto
from onnx_graphsurgeon.importers.onnx_importer import OnnxImporter
from onnx_graphsurgeon.ir.tensor import LazyValues, SparseValues
from onnx_graphsurgeon.logger.logger import G_LOGGER, LoggerSuppress

from optc.models import storage
from optc.models.errors import InputError
from optc.models.export import export_graph, remember
from optc.models.wiring import check_wiring


class Model:
    """An ONNX model in memory.

    `graph` is an `onnx_graphsurgeon.Graph` to edit; everything else of the file (metadata, functions,
    device configurations, external data) is carried along and written back by `to_proto` and `save`.
    A model that nobody edited is written back as it was read.
    """

    def __init__(self, proto: onnx.ModelProto, folder: Path | None = None) -> None:
        """Wrap `proto`, which is not copied; `folder` is where its external data lies, if it has any.

        Raises `InputError` for a proto that is no usable model or whose external data is not sound.
        """
        self.folder = folder or Path.cwd()
        where = f"model '{proto.graph.name}'"
        storage.check_proto(proto, where)
        check_wiring(proto.graph, where)
        storage.check_external(proto, self.folder)
        self._replace(proto)

    def _replace(self, proto: onnx.ModelProto) -> None:
        self._source = proto
        self._graph: gs.Graph | None = None
        self._changed = False
        self.header = onnx.ModelProto()
        """Everything of the ModelProto but its graph."""
        for field, value in proto.ListFields():
            if field.name == "graph":
                continue
            if field.is_repeated:
                getattr(self.header, field.name).extend(value)
            else:
                setattr(self.header, field.name, value)
        constants = {t.name for t in proto.graph.initializer}
        self.overridable = [i.name for i in proto.graph.input if i.name in constants]
        """Names of initializers that are also graph inputs: a caller may override their values."""

    @classmethod
    def load(cls, path: str | Path) -> Model:
        """Read an `.onnx` file; external data stays on disk, memory-mapped on use (`InputError`)."""
        path = Path(path)
        proto = storage.read_proto(path)
        storage.check_proto(proto, str(path))
        try:
            return cls(proto, path.resolve().parent)
        except InputError as error:
            text = str(error)
            raise InputError(text if str(path) in text else f"{path}: {text}", error.node) from error

    @property
    def graph(self) -> gs.Graph:
        """The graph, to edit: from here on the model counts as changed (a pipeline takes a pass's word)."""
        self._changed = True
        return self.view

    @property
    def view(self) -> gs.Graph:
        """The graph, to read only."""
        if self._graph is None:
            self._graph = self._import()
        return self._graph

    @property
    def changed(self) -> bool:
        """Whether the graph may differ from what was loaded; a pipeline resets it for a no-op pass."""
        return self._changed

    @changed.setter
    def changed(self, value: bool) -> None:
        self._changed = value

    def _import(self) -> gs.Graph:
        proto = self._source
        with LoggerSuppress(G_LOGGER, G_LOGGER.ERROR):  # it warns of every type that numpy lacks
            graph = OnnxImporter.import_graph(
                proto.graph,
                opset=OnnxImporter.get_opset(proto),
                import_domains=proto.opset_import,
                producer_name=proto.producer_name,
                producer_version=proto.producer_version,
                ir_version=proto.ir_version,
            )
        for tensor in graph.tensors().values():
            if tensor.shape and any(isinstance(d, int) and d < 0 for d in tensor.shape):
                # Some exporters write -1 for a free dimension.
                tensor.shape = [None if isinstance(d, int) and d < 0 else d for d in tensor.shape]
        remember(graph, proto.graph)
        if self._has_external():
            self._map_external(graph)
        return graph

    def _has_external(self) -> bool:
        return any(storage.is_external(t) for t in storage.tensors_of(self._source))

    def _map_external(self, graph: gs.Graph) -> None:
        for node in graph.nodes:
            for value in (*node.inputs, *node.attrs.values()):
                if isinstance(value, gs.Constant):
                    self._map_tensor(value)
                elif isinstance(value, gs.Graph):
                    self._map_external(value)
        for tensor in graph.outputs:
            self._map_tensor(tensor)

    def _map_tensor(self, tensor: gs.Tensor) -> None:
        values: Any = getattr(tensor, "_values", None)
        if type(values) is LazyValues and storage.is_external(values.tensor):
            tensor.values = storage.ExternalValues(values.tensor, self.folder)
            tensor.data_location = None

    @property
    def name(self) -> str:
        """The graph's name."""
        return str(self._source.graph.name if self._graph is None else self._graph.name)

    @property
    def opset(self) -> int:
        """Version of the default ONNX domain (1 where the file names none)."""
        versions = [o.version for o in self.header.opset_import if o.domain in ("", "ai.onnx")]
        return int(versions[0]) if versions else 1

    def metadata(self) -> dict[str, str]:
        """The model's `metadata_props`; change them with `set_metadata`."""
        return {p.key: p.value for p in self.header.metadata_props}

    def set_metadata(self, key: str, value: str) -> None:
        """Set one entry of `metadata_props`."""
        entries = self.metadata() | {key: value}
        del self.header.metadata_props[:]
        for name in entries:
            self.header.metadata_props.add(key=name, value=entries[name])
        self._changed = True

    def require_domain(self, domain: str, version: int = 1) -> None:
        """Add an opset import for `domain` where the model has none."""
        if all(o.domain != domain for o in self.header.opset_import):
            self.header.opset_import.add(domain=domain, version=version)
            self._changed = True

    def replace(self, proto: onnx.ModelProto) -> None:
        """Take `proto` (same folder for external data) in place of all that the model held."""
        self._replace(proto)
        self._changed = True
        self._graph = None

    def to_proto(self, embed: bool = True) -> onnx.ModelProto:
        """The model as a proto of its own, all tensors inside it.

        With `embed=False`, tensors that lie in external files keep pointing there, relative to `folder`.
        Raises `InputError` where embedding passes protobuf's 2 GB.
        """
        if embed and self.stored_bytes() > storage.PROTOBUF_LIMIT:
            raise InputError(
                f"model '{self.name}' holds over 2 GB of tensors; it fits only into external data"
            )

        def sink(tensor: TensorProto) -> TensorProto:
            return storage.embed(tensor, self.folder) if embed and storage.is_external(tensor) else tensor

        return self._export(sink)

    def _export(self, sink: storage.Sink) -> onnx.ModelProto:
        out = onnx.ModelProto()
        if self._changed and self._graph is not None:
            out.CopyFrom(self.header)
            export_graph(self._graph, sink, out.graph, self.overridable)
            return out
        out.CopyFrom(self._source)
        if self._changed:
            graph = out.graph
            out = onnx.ModelProto()
            out.CopyFrom(self.header)
            out.graph.CopyFrom(graph)
        for tensor in storage.tensors_of(out):
            stored = sink(tensor)
            if stored is not tensor:
                tensor.CopyFrom(stored)
        return out

    def piece(self, nodes: Sequence[gs.Node], inputs: Sequence[gs.Tensor], outputs: Sequence[str]) -> Model:
        """A model of some `nodes` of this one's main graph, which reads `inputs` and writes the named
        values.
        """
        proto = onnx.ModelProto()
        proto.CopyFrom(self.header)
        ends = [gs.Variable(name) for name in outputs]
        export_graph(gs.Graph(list(nodes), list(inputs), ends), lambda tensor: tensor, proto.graph)
        del proto.graph.value_info[:]
        return Model(proto, self.folder)

    def stored_bytes(self) -> int:
        """Bytes of all tensors (initializers and attributes), wherever they lie."""
        if self._graph is None or not self._changed:
            return sum(storage.byte_size(t) for t in storage.tensors_of(self._source))
        return sum(_nbytes(t) for t in self._graph.tensors().values() if isinstance(t, gs.Constant))

    def save(self, path: str | Path, external: bool | None = None) -> None:
        """Write the model to `path`, whole or not at all (`InputError`).

        `external` puts the tensors into `NAME.data` beside it; by default only where the model was loaded
        with external data or holds over 2 GB.
        """
        path = Path(path)
        if external is None:
            external = self._has_external() or self.stored_bytes() > storage.PROTOBUF_LIMIT // 2
        if not external:
            storage.save_bytes(path, self.to_proto().SerializeToString(deterministic=True))
            return
        location = path.name + ".data"
        with storage.write_beside(path) as stream, storage.write_beside(path.with_name(location)) as data:
            file = storage.DataFile(data, location)
            proto = self._export(lambda tensor: file.add(tensor, self.folder))
            stream.write(proto.SerializeToString(deterministic=True))

    def copy(self) -> Model:
        """An independent copy of the model; tensors in external files stay there."""
        return Model(self.to_proto(embed=False), self.folder)


def _nbytes(tensor: gs.Constant) -> int:
    values = tensor._values
    if isinstance(values, SparseValues):
        return storage.byte_size(values.tensor.values) + storage.byte_size(values.tensor.indices)
    return storage.byte_size(values.tensor) if isinstance(values, LazyValues) else int(values.nbytes)
