// Runs a board (class Vboard: clk, rx, tx; by Verilator or of a netlist) and talks to it over its two wires:
// what the Python side calls. The bits on tx are read as they come, also while bytes are sent.
#include <cstdint>
#include <deque>

#include "Vboard.h"

namespace {

struct Machine {
    Vboard board;
    uint32_t divisor = 8;
    uint64_t cycles = 0;
    std::deque<uint8_t> received;

    // Of the byte that comes in: bits still to come, cycles until the middle of the next, and the bits so far.
    int left = 0, wait = 0;
    uint32_t bits = 0;

    void clock() {
        board.clk = 0;
        board.eval();
        board.clk = 1;
        board.eval();
        ++cycles;
        listen();
    }

    void listen() {
        if (left == 0) {
            if (!board.tx) left = 9, wait = divisor + divisor / 2 - 1, bits = 0;
        } else if (--wait == 0) {
            if (--left) bits |= uint32_t(board.tx) << (8 - left), wait = divisor;
            else received.push_back(uint8_t(bits));
        }
    }

    void send(uint8_t byte) {
        const uint32_t frame = 0x200u | uint32_t(byte) << 1;
        for (int bit = 0; bit < 10; ++bit) {
            board.rx = frame >> bit & 1;
            for (uint32_t i = 0; i < divisor; ++i) clock();
        }
    }
};

}  // namespace

extern "C" {

void* board_new(uint32_t divisor) {
    auto* machine = new Machine;
    machine->divisor = divisor;
    machine->board.rx = 1;
    for (int i = 0; i < 64; ++i) machine->clock();  // the reset at power-on
    return machine;
}

void board_delete(void* machine) { delete static_cast<Machine*>(machine); }

uint64_t board_cycles(void* machine) { return static_cast<Machine*>(machine)->cycles; }

void board_send(void* handle, const uint8_t* bytes, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) static_cast<Machine*>(handle)->send(bytes[i]);
}

// Waits for `count` bytes, at most `limit` cycles; returns how many came.
uint64_t board_receive(void* handle, uint8_t* bytes, uint64_t count, uint64_t limit) {
    auto& machine = *static_cast<Machine*>(handle);
    const uint64_t end = machine.cycles + limit;
    while (machine.received.size() < count && machine.cycles < end) machine.clock();
    uint64_t found = 0;
    for (; found < count && !machine.received.empty(); ++found) {
        bytes[found] = machine.received.front();
        machine.received.pop_front();
    }
    return found;
}
}
