"""A memory on the chip of elements that are written in parts and read whole."""

from amaranth import Cat, Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class Banks(wiring.Component):
    """`depth` elements of `banks` parts of `width` bits each.

    `enable`: a bit for each part of the element at `write_index`. `value` is the element at `read_index` two
    cycles before: the memory's output is registered before any logic, which block RAM needs to be fast.
    """

    def __init__(self, depth: int, banks: int, width: int) -> None:
        self._depth, self._banks, self._width = depth, banks, width
        bits = (depth - 1).bit_length()
        super().__init__(
            {
                "write_index": In(bits),
                "enable": In(banks),
                "data": In(banks * width),
                "read_index": In(bits),
                "value": Out(banks * width),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """A memory a part."""
        m = Module()
        parts = []
        for number in range(self._banks):
            memory = Memory(shape=self._width, depth=self._depth, init=[])
            m.submodules[f"part{number}"] = memory
            write, read = memory.write_port(), memory.read_port()
            place = slice(number * self._width, (number + 1) * self._width)
            m.d.comb += [
                write.addr.eq(self.write_index),
                write.data.eq(self.data[place]),
                write.en.eq(self.enable[number]),
                read.addr.eq(self.read_index),
            ]
            register = Signal(self._width, reset_less=True)
            m.d.sync += register.eq(read.data)
            parts.append(register)
        m.d.comb += self.value.eq(Cat(parts))
        return m
