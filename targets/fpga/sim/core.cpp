// Runs the Verilated core (class Vvta) on a memory of its own: what the Python side calls.
//
// The memory answers reads `latency` cycles after it took the request, then a word a cycle, in order. Writes
// are taken at once. `stall`: of 256 cycles, in how many on average each channel is not ready or not valid.
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>

#include "Vvta.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

namespace {

struct Burst {
    uint64_t ready;
    uint32_t address;
    uint32_t left;
};

struct Machine {
    VerilatedContext context;
    Vvta core{&context};
    uint8_t* memory = nullptr;
    uint64_t size = 0, now = 0, latency = 16;
    uint32_t stall = 0, noise = 1;
    std::deque<Burst> reads, writes;
    uint32_t answers = 0;

    bool stalls() {
        if (!stall) return false;
        noise ^= noise << 13, noise ^= noise >> 17, noise ^= noise << 5;
        return (noise & 255) < stall;
    }

    void before() {
        const bool has = !reads.empty() && reads.front().ready <= now;
        if (!core.rvalid || core.rready) core.rvalid = 0;  // a word, once shown, stays until it is taken
        core.rvalid = has && (shown || !stalls());
        if (core.rvalid) {
            const Burst& burst = reads.front();
            uint64_t word = 0;
            if (uint64_t(burst.address) + 8 <= size) std::memcpy(&word, memory + burst.address, 8);
            core.rdata = word;
            core.rlast = burst.left == 1;
            core.rresp = uint64_t(burst.address) + 8 <= size ? 0 : 3;
        }
        core.arready = reads.size() < 64 && !stalls();
        core.awready = writes.size() < 64 && !stalls();
        core.wready = !writes.empty() && !stalls();
        core.bvalid = answers > 0 && !stalls();
        core.bresp = bad ? 3 : 0;
    }

    void after() {
        if (core.bvalid) --answers;
        if (core.arvalid && core.arready) reads.push_back({now + latency, core.araddr, core.arlen + 1u});
        if (core.awvalid && core.awready) writes.push_back({now, core.awaddr, core.awlen + 1u});
        shown = core.rvalid && !core.rready;
        if (core.rvalid && core.rready) {
            reads.front().address += 8;
            if (--reads.front().left == 0) reads.pop_front();
        }
        if (core.wvalid && core.wready) {
            Burst& burst = writes.front();
            if (uint64_t(burst.address) + 8 > size) bad = true;
            for (int i = 0; !bad && i < 8; ++i)
                if (core.wstrb >> i & 1) memory[burst.address + i] = core.wdata >> (8 * i);
            burst.address += 8;
            if (--burst.left == 0) writes.pop_front(), ++answers;
        }
    }

    // No output depends on an input of the same cycle: what is shown now is what the last edge left.
    void clock() {
        before();
        after();
#if VM_TRACE
        core.clk = 0;
        core.eval();
        dump(0);
        core.clk = 1;
        core.eval();
        dump(1);
#else
        core.clk ^= 1;  // each change is a cycle
        core.eval();
#endif
        ++now;
    }

#if VM_TRACE
    VerilatedVcdC waves;
    uint64_t first = 0, last = 0;

    void trace(const char* path, uint64_t from, uint64_t to) {
        context.traceEverOn(true);
        core.trace(&waves, 99);
        first = from, last = to;
        waves.open(path);
    }
    // Two steps of time a cycle: the clock low, then high.
    void dump(int half) {
        if (waves.isOpen() && core.cycles >= first && core.cycles < last) waves.dump(2 * now + half);
    }
#endif

    bool shown = false, bad = false;
};

}  // namespace

extern "C" {

// Runs `count` instructions at `address` for at most `limit` cycles. Returns the error bits, 256 where it did
// not end; `cycles`: from launch to finish. `waves`: null, or where to write the cycles from `from` to before
// `to` as VCD (only in a library that was built to).
int vta_run(uint8_t* memory, uint64_t size, uint32_t address, uint32_t count, uint32_t latency,
            uint32_t stall, uint32_t seed, uint64_t limit, uint32_t* cycles, const char* waves, uint64_t from,
            uint64_t to) {
    auto machine = std::make_unique<Machine>();
    machine->core.eval();  // from here on, edges are seen
    machine->memory = memory, machine->size = size, machine->latency = latency;
    machine->stall = stall, machine->noise = seed * 2 + 1;
    Vvta& core = machine->core;
#if VM_TRACE
    if (waves) machine->trace(waves, from, to);
#endif
    core.rst = 1;
    machine->clock();
    core.rst = 0;
    core.address = address, core.count = count, core.launch = 1;
    machine->clock();
    core.launch = 0;
    while (!core.finished && machine->now < limit) machine->clock();
    *cycles = core.cycles;
    return core.finished ? core.error : 256;
}
}
