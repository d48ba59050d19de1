"""The array of multipliers: rows of inputs times rows of weights, a product of matrices a cycle."""

from amaranth import Elaboratable, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.layouts import lanes

LATENCY = 3
"""Cycles from operands to sums: products, half of the levels of the tree of adders, the other half."""


class Products(wiring.Component):
    """`sums`[b * block + o] = sum over k of `inp`[b * block + k] * `wgt`[o * block + k].

    int8 operands, exact sums, `LATENCY` cycles later.
    """

    def __init__(self, batch: int, block: int) -> None:
        self._batch, self._block = batch, block
        self.bits = 16 + (block - 1).bit_length()
        super().__init__(
            {
                "inp": In(lanes(batch * block, 8)),
                "wgt": In(lanes(block * block, 8)),
                "sums": Out(lanes(batch * block, self.bits)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """A tree of adders for each result."""
        m = Module()
        for b in range(self._batch):
            for o in range(self._block):
                m.d.comb += self.sums[b * self._block + o].eq(self._sum(m, b, o))
        return m

    def _sum(self, m: Module, b: int, o: int) -> Value:
        n = self._block
        products = []
        for k in range(n):
            product = Signal(signed(16), reset_less=True, name=f"product_{b}_{o}_{k}")
            m.d.sync += product.eq(self.inp[b * n + k] * self.wgt[o * n + k])
            products.append(product)
        early = max(n.bit_length() // 2, 1)  # levels of the tree before its register
        width = 1 << early
        parts = []
        for start in range(0, n, width):
            part = Signal(signed(self.bits), reset_less=True, name=f"part_{b}_{o}_{start}")
            m.d.sync += part.eq(_tree(products[start : start + width]))
            parts.append(part)
        total = Signal(signed(self.bits), reset_less=True, name=f"sum_{b}_{o}")
        m.d.sync += total.eq(_tree(parts))
        return total


def _tree(values: list[Value]) -> Value:
    """The sum, by halves."""
    if len(values) == 1:
        return values[0]
    middle = len(values) // 2
    return _tree(values[:middle]) + _tree(values[middle:])
