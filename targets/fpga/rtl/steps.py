"""The pipeline of compute: steps of GEMM and ALU go in, one a cycle, and change ACC and OUT."""

from amaranth import Cat, Const, Elaboratable, Module, Mux, Signal, Value, ValueLike, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.alu import Lane
from optc.targets.fpga.rtl.banks import Banks
from optc.targets.fpga.rtl.copies import copies
from optc.targets.fpga.rtl.layouts import Flags, Operation, lanes, uop_layout
from optc.targets.fpga.rtl.loops import index_bits, step_layout
from optc.targets.fpga.rtl.products import LATENCY, Products
from optc.targets.fpga.rtl.writer import write_signature
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import AluOp

UOP, INDICES, OPERANDS = 2, 3, 5
"""In which stage a step has its micro-op, its indices, and its INP and WGT elements."""
SELECT = OPERANDS + LATENCY
"""Stage in which the operands are chosen; those from ACC are asked for two stages before."""
EXECUTE = SELECT + 1
"""Stage of the sum or ALU operation."""
RETIRE = EXECUTE + 1
"""Stage in which ACC and OUT are written, and tokens given."""
BEHIND = 3
"""Results from `RETIRE` on that are kept: with the one that `EXECUTE` makes, a step may not see in ACC what
the four before it made, and gets it from here."""


def work_layout(config: Config) -> data.StructLayout:
    """What goes into the pipeline: a `step` (if `works`), and what is done when it comes out."""
    return data.StructLayout(
        {"works": 1, "step": step_layout(config), "operation": Operation, "ends": 1, "flags": Flags}
    )


class Steps(wiring.Component):
    """Takes `work` every cycle and never stops; what goes in together comes out after `RETIRE` cycles.

    `uop_index`, `inp_index`, `wgt_index`: reads of the memories, whose values come two cycles later. ACC and
    OUT are inside: `acc_write` (banks of a word), `out_index` and `out_value`, two cycles later. `retired` is
    raised with the `flags` of what `ends`. `busy`: a step may write ACC in the next cycle. `refused`: an
    index beyond its memory, or a shift that VTA has not.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lanes = config.batch * config.block
        bits = index_bits(config)
        super().__init__(
            {
                "work": In(work_layout(config)),
                "uop_index": Out(config.log_depth(Memory.UOP)),
                "uop_value": In(32),
                "inp_index": Out(config.log_depth(Memory.INP)),
                "inp_value": In(lanes(self._lanes, 8)),
                "wgt_index": Out(bits["wgt"]),
                "wgt_value": In(lanes(config.block**2, 8)),
                "acc_write": In(write_signature(max(self._lanes // 2, 1), 64)),
                "out_index": In(bits["dst"]),
                "out_value": Out(8 * self._lanes),
                "retired": Out(1),
                "flags": Out(Flags),
                "busy": Out(1),
                "refused": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """The stages, the memories, and the lanes."""
        m = Module()
        stages = self._stages(m)
        indices = self._indices(m, stages)
        sums = self._products(m, indices)
        operands = self._accumulators(m, stages, indices)
        self._execute(m, stages, indices, sums, operands)
        self._retire(m, stages, indices)
        return m

    def _stages(self, m: Module) -> list[data.View]:
        """The work in each stage, from 0 (this cycle's) on."""
        stages: list[data.View] = [self.work]
        for number in range(1, RETIRE + BEHIND):
            stage = Signal(work_layout(self._config), name=f"stage{number}")
            m.d.sync += stage.eq(stages[-1])
            stages.append(stage)
        m.d.sync += self.busy.eq(Cat(s.works for s in stages[: RETIRE - 1]).any())
        return stages

    def _indices(self, m: Module, stages: list[data.View]) -> dict[str, list[Value]]:
        """Where a step in each stage from `INDICES` on writes and reads: by stage, lists of signals."""
        m.d.comb += self.uop_index.eq(self.work.step.uop)
        uop = data.View(uop_layout(self._config), self.uop_value)
        found: dict[str, list[Value]] = {}
        beyond = []
        step = stages[UOP].step
        for name, bits in index_bits(self._config).items():
            index = Signal(bits + 1, name=name, reset_less=True)
            total = step[name][:bits] + uop[name]
            m.d.sync += index.eq(Cat(total[:bits], total[bits:].any() | step[name][bits]))
            beyond.append(index[bits])
            found[name] = [index[:bits]] * (INDICES + 1)
            for number in range(INDICES + 1, RETIRE + BEHIND):
                register = Signal(bits, name=f"{name}{number}", reset_less=True)
                m.d.sync += register.eq(found[name][-1])
                found[name].append(register)
        self._check(m, stages[INDICES], beyond, found)
        return found

    def _check(
        self, m: Module, stage: data.View, beyond: list[Value], indices: dict[str, list[Value]]
    ) -> None:
        """Raise `refused` for a step whose indices pass what they are used for."""
        dst, src, wgt = beyond
        inp_bits, acc_bits = (self._config.log_depth(k) for k in (Memory.INP, Memory.ACC))
        wide = indices["src"][INDICES]
        inp_over, acc_over = (src | wide[bits:].any() for bits in (inp_bits, acc_bits))
        self._beyond = Signal()
        m.d.comb += self._beyond.eq(
            stage.works
            & (dst | Mux(stage.operation.gemm, inp_over | wgt, acc_over & ~stage.operation.use_imm))
        )

    def _products(self, m: Module, indices: dict[str, list[Value]]) -> data.View:
        m.submodules.products = products = Products(self._config.batch, self._config.block)
        m.d.comb += [self.inp_index.eq(indices["src"][INDICES]), self.wgt_index.eq(indices["wgt"][INDICES])]
        m.d.comb += [products.inp.eq(self.inp_value), products.wgt.eq(self.wgt_value)]
        return products.sums

    def _accumulators(
        self, m: Module, stages: list[data.View], indices: dict[str, list[Value]]
    ) -> list[Value]:
        """All lanes of ACC at `dst` and at `src` for the step in `SELECT`, but for the newest result."""
        self._written = Signal(32 * self._lanes, reset_less=True)  # the result in RETIRE
        behind = [self._written]
        for number in range(1, BEHIND):
            register = Signal(32 * self._lanes, name=f"written{number}", reset_less=True)
            m.d.sync += register.eq(behind[-1])
            behind.append(register)
        self._copies = []
        operands: list[Value] = []
        for name in ("dst", "src"):
            copy = Banks(self._config.depth(Memory.ACC), max(self._lanes // 2, 1), 64)
            m.submodules[f"acc_{name}"] = copy
            self._copies.append(copy)
            m.d.comb += copy.read_index.eq(indices[name][SELECT - 2])
            operand = Signal(32 * self._lanes, name=f"operand_{name}")
            m.d.comb += operand.eq(copy.value)
            for age in reversed(range(BEHIND)):
                # Compared a stage early, when the step that will be `age` behind RETIRE is a stage early too.
                older = RETIRE + age - 1
                same = indices[name][SELECT - 1] == indices["dst"][older]
                hits = self._for_lanes(m, f"hit_{name}{age}", same & stages[older].works)
                for number, hit in enumerate(hits):
                    place = slice(32 * number, 32 * (number + 1))
                    with m.If(hit):
                        m.d.comb += operand[place].eq(behind[age][place])
            operands.append(operand)
        return operands

    def _for_lanes(self, m: Module, name: str, value: ValueLike) -> list[Value]:
        """The bits of `value` a cycle later, in registers of each lane's own: a lane is 32 bits wide."""
        bits = Value.cast(value)
        parts = [copies(m, f"{name}_{n}", bits[n], self._lanes) for n in range(len(bits))]
        return [Cat(of_lane) for of_lane in zip(*parts, strict=True)]

    def _execute(
        self,
        m: Module,
        stages: list[data.View],
        indices: dict[str, list[Value]],
        sums: data.View,
        operands: list[Value],
    ) -> None:
        """Choose the operands of each lane, then the result; the newest result comes in between."""
        before, select = stages[SELECT - 1].operation, stages[SELECT].operation
        gemms = self._for_lanes(m, "gemm", before.gemm)
        immediates = self._for_lanes(m, "use_imm", before.use_imm)
        plain = ~select.gemm & ~select.use_imm  # the second operand is from ACC
        newest = []
        for name, asks in (("dst", Const(1)), ("src", plain)):
            same = indices[name][SELECT] == indices["dst"][EXECUTE]
            newest.append(self._for_lanes(m, f"newest_{name}", same & stages[EXECUTE].works & asks))
        # A GEMM step is an ADD of the sum.
        ops = self._for_lanes(m, "op", Mux(select.gemm, AluOp.ADD.value, select.op))
        resets = self._for_lanes(m, "reset", select.gemm & select.reset)
        results, refused = [], []
        for number in range(self._lanes):
            place = slice(32 * number, 32 * (number + 1))
            x, y = (Signal(signed(32), name=f"{n}{number}", reset_less=True) for n in "xy")
            other = operands[1][place].as_signed()
            m.d.sync += x.eq(operands[0][place])
            m.d.sync += y.eq(Mux(gemms[number], sums[number], Mux(immediates[number], select.imm, other)))
            made = self._written[place].as_signed()
            m.submodules[f"lane{number}"] = lane = Lane()
            m.d.comb += [lane.x.eq(Mux(newest[0][number], made, x)), lane.op.eq(ops[number])]
            m.d.comb += [lane.y.eq(Mux(newest[1][number], made, y)), lane.reset.eq(resets[number])]
            results.append(lane.result)
            refused.append(lane.refused)
        beyond, shifts = Signal(), Signal(self._lanes)
        m.d.sync += [beyond.eq(self._beyond), self._written.eq(Cat(r[:32] for r in results))]
        works = stages[EXECUTE].works & ~stages[EXECUTE].operation.gemm
        m.d.sync += shifts.eq(Mux(works, Cat(refused), 0))
        m.d.sync += self.refused.eq(beyond | shifts.any())

    def _retire(self, m: Module, stages: list[data.View], indices: dict[str, list[Value]]) -> None:
        """Write ACC (both copies) and OUT, and give what the step gives."""
        last = stages[RETIRE]
        m.d.comb += [self.retired.eq(last.ends), self.flags.eq(last.flags)]
        works = self._for_lanes(m, "works", stages[EXECUTE].works)
        value = Signal(32 * self._lanes)
        for number, mine in enumerate(works):
            given = self.acc_write.data[32 * (number % 2) :][:32]
            place = slice(32 * number, 32 * (number + 1))
            m.d.comb += value[place].eq(Mux(mine, self._written[place], given))
        for copy in self._copies:
            m.d.comb += [
                copy.write_index.eq(Mux(last.works, indices["dst"][RETIRE], self.acc_write.index)),
                copy.enable.eq(self.acc_write.enable | last.works.replicate(len(copy.enable))),
                copy.data.eq(value),
            ]
        m.submodules.out = out = Banks(self._config.depth(Memory.OUT), 1, 8 * self._lanes)
        low = Cat(self._written.word_select(i, 32)[:8] for i in range(self._lanes))
        m.d.comb += [
            out.write_index.eq(indices["dst"][RETIRE]),
            out.enable.eq(last.works & ~(last.operation.gemm & last.operation.reset)),
            out.data.eq(low),
            out.read_index.eq(self.out_index),
            self.out_value.eq(out.value),
        ]
