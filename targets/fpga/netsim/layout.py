"""Where the nets lie in memory, a byte each, and which clusters are to be evaluated when one changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from optc.targets.fpga.netsim.cells import CONSTANTS, Bit
from optc.targets.fpga.netsim.models import Logic
from optc.targets.fpga.netsim.netlist import Netlist, clusters, grouped

WORD = 8
"""Bytes that the clock compares at once."""


class Layout:
    """What the generated code refers to.

    `groups`: registers with their first word; `outputs`: block RAMs' first words. Words 0 to `words` - 1 are
    what the clock changes: `state`; what they become lies, in the same order, in the `words` after them. Then
    come inputs, and what logic gives to other clusters, RAMs and outputs. `slots`: where a net is read;
    `copies`: where else it is to be written; `readers`: the clusters that are to be evaluated when it
    changes. `RuntimeError` where something reads a net that nothing drives.
    """

    def __init__(self, netlist: Netlist) -> None:
        self.netlist = netlist
        self.slots: dict[Bit, int] = {}
        self.copies: dict[Bit, list[int]] = {}
        words = self._place_state()
        self.words, self.size = words, 2 * words * WORD
        self.state = frozenset(self.slots)
        for bit in netlist.inputs():
            self._place(bit)
        read = dict.fromkeys(_read_outside_logic(netlist))
        self.clusters = clusters(netlist, [*(one.d for _, g in self.groups for one in g), *read])
        self.readers = _readers(self.clusters)
        for bit in (bit for cluster in self.clusters for bit in driven(cluster)):
            if places := self.copies.get(bit):
                self.slots[bit] = places.pop(0)
            elif bit in self.readers or bit in read:
                self._place(bit)
        for bit in (*self.readers, *read):
            if isinstance(bit, int) and bit not in self.slots:
                raise RuntimeError(f"net {bit} has no driver with a model")

    def _place_state(self) -> int:
        """Words of registers, group by group, and of what block RAMs give."""
        word, netlist = 0, self.netlist
        self.groups = []
        for group in grouped(netlist.registers):
            self.groups.append((word, group))
            self.slots.update({one.q: word * WORD + i for i, one in enumerate(group)})
            word += _words(len(group))
        self.outputs = []
        for ram in netlist.block_rams:
            self.outputs.append(word)
            self.slots.update({bit: word * WORD + i for i, bit in enumerate(ram.outputs) if bit != "0"})
            word += _words(ram.width)
        for start, group in self.groups:
            for i, one in enumerate(group):
                self.copies.setdefault(one.d, []).append((word + start) * WORD + i)
        return word

    def _place(self, bit: Bit) -> None:
        self.slots[bit] = self.size
        self.size += 1

    def marks(self, bits: Iterable[Bit]) -> dict[int, int]:
        """By word of 64 clusters, a mask of those that read one of `bits`."""
        found: dict[int, int] = {}
        for cluster in {c for bit in bits for c in self.readers.get(bit, ())}:
            found[cluster // 64] = found.get(cluster // 64, 0) | 1 << cluster % 64
        return dict(sorted(found.items()))


def driven(cluster: Iterable[Logic]) -> Iterator[Bit]:
    """The nets that a cluster's logic drives."""
    return (bit for one in cluster for bit in one.outputs)


def _words(count: int) -> int:
    return -(-count // WORD)


def _readers(found: Sequence[Sequence[Logic]]) -> dict[Bit, set[int]]:
    """The clusters that read a net which they do not drive."""
    readers: dict[Bit, set[int]] = {}
    for number, cluster in enumerate(found):
        own = {*driven(cluster), *CONSTANTS}
        for bit in (bit for one in cluster for bit in one.inputs if bit not in own):
            readers.setdefault(bit, set()).add(number)
    return readers


def _read_outside_logic(netlist: Netlist) -> Iterator[Bit]:
    """What the clock and the outputs read, besides what registers become."""
    for one in netlist.registers:
        yield from (one.enable, one.reset)
    for small in netlist.small_rams:
        yield from (*small.address, *small.data, small.enable)
    for ram in netlist.block_rams:
        for (ones, zeros), address in (ram.write_port, ram.read_port):
            yield from (*ones, *zeros, *address)
        yield from (*ram.enables, *ram.data)
    for is_input, bits in netlist.ports.values():
        if not is_input:
            yield from bits
