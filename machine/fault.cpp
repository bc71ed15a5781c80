// SPDX-License-Identifier: MIT
#include "fault.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>
#include <variant>

#include "layout.hpp"
#include "text.hpp"

namespace dirtyring::machine {

namespace {

constexpr std::uint64_t page_fault = 14;

constexpr std::array<const char*, layout::vector_count> exception_names = {
    "#DE, division error",
    "#DB, debug exception",
    "non-maskable interrupt",
    "#BP, breakpoint",
    "#OF, overflow",
    "#BR, bound range exceeded",
    "#UD, invalid instruction",
    "#NM, no floating-point unit",
    "#DF, double fault",
    "exception 9",
    "#TS, invalid TSS",
    "#NP, segment not present",
    "#SS, stack fault",
    "#GP, general protection",
    "#PF, page fault",
    "exception 15",
    "#MF, floating-point error",
    "#AC, misaligned access",
    "#MC, machine check",
    "#XM, SIMD floating-point error",
    "#VE, virtualization exception",
    "#CP, control protection",
    "exception 22",
    "exception 23",
    "exception 24",
    "exception 25",
    "exception 26",
    "exception 27",
    "#HV, hypervisor injection",
    "#VC, VMM communication",
    "#SX, security exception",
    "exception 31",
};

constexpr bool has_error_code(std::uint64_t vector) {
    constexpr std::uint32_t with_code = 1U << 8 | 0x1fU << 10 | 1U << 17 | 1U << 21 | 3U << 29;
    return vector < layout::vector_count && (with_code >> vector & 1) != 0;
}

/// The vCPU's registers as they were in the guest.
struct State {
    kvm_regs regs{};
    kvm_sregs sregs{};
};

Result<State> read_state(const kvm::Vcpu& vcpu) {
    const Result<kvm_regs> regs = vcpu.get_regs();
    if (!regs) {
        return fail(regs.error());
    }
    const Result<kvm_sregs> sregs = vcpu.get_sregs();
    if (!sregs) {
        return fail(sregs.error());
    }
    return State{*regs, *sregs};
}

/// What a stub pushed below what the CPU pushed, lowest address first.
struct StubFrame {
    std::uint64_t rdx;
    std::uint64_t rax;
    std::uint64_t error;  ///< stays 0 for vectors without an error code
    std::uint64_t rip;
    std::uint64_t cs;
    std::uint64_t rflags;
    std::uint64_t rsp;
    std::uint64_t ss;
};

StubFrame read_frame(const FaultContext& context, std::uint64_t vector) {
    // Every exception starts at the stack's top (its IST entry), so the frame's place does not
    // depend on anything that the guest could have spoilt.
    const std::uint64_t top = layout::exception_stack_top(context.index);
    const auto from_cpu =
        context.memory.load<std::array<std::uint64_t, 5>>(top - 5 * sizeof(std::uint64_t));
    StubFrame frame{};
    frame.rip = from_cpu[0];
    frame.cs = from_cpu[1];
    frame.rflags = from_cpu[2];
    frame.rsp = from_cpu[3];
    frame.ss = from_cpu[4];
    std::uint64_t next = top - sizeof from_cpu;
    const auto pop = [&] {
        next -= sizeof(std::uint64_t);
        return context.memory.load<std::uint64_t>(next);
    };
    if (has_error_code(vector)) {
        frame.error = pop();
    }
    frame.rax = pop();
    frame.rdx = pop();
    return frame;
}

/// Where an address is that a guest cannot reach.
std::string place(std::uint64_t address, std::uint64_t memory) {
    if (address < layout::page) {
        return "a null pointer";
    }
    if (address >= memory) {
        return "beyond guest memory, which ends at " + hex(memory);
    }
    if (address >= layout::stacks && address < guest_abi::reserved) {
        const auto vcpu =
            static_cast<std::uint32_t>((address - layout::stacks) / layout::stack_stride);
        if (address < layout::stack_bottom(vcpu)) {
            return "the guard page below the stack of vCPU " + std::to_string(vcpu) +
                   ": the stack has overflowed its " + std::to_string(layout::stack_size >> 10) +
                   " KiB";
        }
        return "the stack of vCPU " + std::to_string(vcpu) + ", which this machine does not have";
    }
    if (address / layout::page == layout::info / layout::page) {
        return "the VMM's Info, which is read-only";
    }
    return "memory of the VMM, which ends at " + hex(guest_abi::reserved);
}

std::string describe_page_fault(std::uint64_t error, std::uint64_t address, std::uint64_t rip,
                                std::uint64_t memory) {
    constexpr std::uint64_t write = 1 << 1;
    const char* access = address == rip         ? "executing"
                         : (error & write) != 0 ? "writing"
                                                : "reading";
    return std::string(" while ") + access + " " + hex(address) + " (" + place(address, memory) +
           ")";
}

std::string describe_registers(const State& state) {
    const kvm_regs& regs = state.regs;
    const std::array<std::pair<const char*, std::uint64_t>, 20> registers = {{
        {"rip", regs.rip},       {"rsp", regs.rsp},
        {"rflags", regs.rflags}, {"cr2", state.sregs.cr2},
        {"rax", regs.rax},       {"rbx", regs.rbx},
        {"rcx", regs.rcx},       {"rdx", regs.rdx},
        {"rsi", regs.rsi},       {"rdi", regs.rdi},
        {"rbp", regs.rbp},       {"r8", regs.r8},
        {"r9", regs.r9},         {"r10", regs.r10},
        {"r11", regs.r11},       {"r12", regs.r12},
        {"r13", regs.r13},       {"r14", regs.r14},
        {"r15", regs.r15},       {"cs", state.sregs.cs.selector},
    }};
    std::string text;
    for (std::size_t i = 0; i < registers.size(); ++i) {
        std::string name = registers[i].first;
        name.resize(6, ' ');
        text += "  " + name + " " + hex16(registers[i].second);
        if (i % 4 == 3) {
            text += "\n";
        }
    }
    return text;
}

/// "  code   0f 0b ..." or nothing where no memory is.
std::string describe_code(const FaultContext& context, std::uint64_t rip) {
    const auto memory = context.memory.bytes();
    if (rip >= memory.size()) {
        return {};
    }
    std::string text = "  code  ";
    for (const std::byte byte :
         memory.subspan(rip).first(std::min<std::size_t>(16, memory.size() - rip))) {
        text += " " + hex2(std::to_integer<unsigned>(byte));
    }
    return text + "\n";
}

std::string report(const FaultContext& context, const State& state, const std::string& cause) {
    return "vCPU " + std::to_string(context.index) + " " + cause + "\n" +
           describe_registers(state) + describe_code(context, state.regs.rip);
}

std::string unreadable(const FaultContext& context, const std::string& cause, const Error& error) {
    return "vCPU " + std::to_string(context.index) + " " + cause +
           "\n  its registers cannot be read: " + error.message() + "\n";
}

}  // namespace

std::optional<std::string> exception_report(const FaultContext& context) {
    Result<State> state = read_state(context.vcpu);
    if (!state) {
        return unreadable(context, "wrote to the fault port", state.error());
    }
    constexpr std::uint64_t stubs_end = layout::stubs + layout::vector_count * layout::stub_size;
    if (state->regs.rip < layout::stubs || state->regs.rip >= stubs_end) {
        return std::nullopt;
    }
    const std::uint64_t vector = (state->regs.rip - layout::stubs) / layout::stub_size;
    const StubFrame frame = read_frame(context, vector);
    state->regs.rip = frame.rip;
    state->regs.rsp = frame.rsp;
    state->regs.rflags = frame.rflags;
    state->regs.rax = frame.rax;
    state->regs.rdx = frame.rdx;
    state->sregs.cs.selector = static_cast<std::uint16_t>(frame.cs);
    std::string cause =
        std::string("faulted: ") + exception_names[vector] + ", at rip " + hex(frame.rip);
    if (vector == page_fault) {
        cause += describe_page_fault(frame.error, state->sregs.cr2, frame.rip,
                                     context.memory.bytes().size());
    }
    if (has_error_code(vector)) {
        cause += ", error code " + hex(frame.error);
    }
    return report(context, *state, cause);
}

std::string exit_report(const FaultContext& context, const std::string& cause) {
    const Result<State> state = read_state(context.vcpu);
    if (!state) {
        return unreadable(context, cause, state.error());
    }
    return report(context, *state, cause + ", at rip " + hex(state->regs.rip));
}

namespace {

struct Describe {
    std::string operator()(const kvm::IoExit& io) const {
        return std::string(io.out ? "wrote " : "read ") + std::to_string(io.size) +
               (io.size == 1 ? " byte" : " bytes") + (io.out ? " to" : " from") + " port " +
               hex(io.port) + ", which is not how a guest of this machine talks (guests/abi.hpp)";
    }
    std::string operator()(const kvm::MmioExit& mmio) const {
        return std::string(mmio.write ? "wrote to" : "read") + " guest-physical address " +
               hex(mmio.address) + ", where there is no memory";
    }
    std::string operator()(const kvm::HltExit&) const {
        return "halted, and nothing can wake it (HLT; a guest ends through its exit port)";
    }
    std::string operator()(const kvm::ShutdownExit&) const {
        return "triple-faulted (KVM_EXIT_SHUTDOWN)";
    }
    std::string operator()(const kvm::InternalErrorExit& error) const {
        // KVM_INTERNAL_ERROR_* (linux/kvm.h)
        std::string text =
            "ran into an instruction that this KVM cannot handle "
            "(KVM_EXIT_INTERNAL_ERROR, suberror " +
            std::to_string(error.suberror);
        for (const __u64 word : error.data) {
            text += " " + hex(word);
        }
        return text + ")";
    }
    std::string operator()(const kvm::FailEntryExit& failed) const {
        return "could not be entered by the hardware (KVM_EXIT_FAIL_ENTRY, reason " +
               hex(failed.hardware_reason) + " on CPU " + std::to_string(failed.cpu) + ")";
    }
    std::string operator()(const kvm::UnknownExit& unknown) const {
        return "left the guest for a reason unknown to KVM (KVM_EXIT_UNKNOWN, " +
               hex(unknown.hardware_reason) + ")";
    }
    std::string operator()(const kvm::SystemEventExit& event) const {
        return "asked for a system event (KVM_EXIT_SYSTEM_EVENT, type " +
               std::to_string(event.type) + ")";
    }
    std::string operator()(const kvm::OtherExit& other) const { return unexpected(other.reason); }
    // The rest needs features that this machine does not turn on.
    std::string operator()(const kvm::RingFullExit&) const {
        return unexpected(KVM_EXIT_DIRTY_RING_FULL);
    }
    std::string operator()(const kvm::IntrExit&) const { return unexpected(KVM_EXIT_INTR); }
    std::string operator()(const kvm::DebugExit&) const { return unexpected(KVM_EXIT_DEBUG); }
    std::string operator()(const kvm::IrqWindowExit&) const {
        return unexpected(KVM_EXIT_IRQ_WINDOW_OPEN);
    }
    std::string operator()(const kvm::MsrExit& msr) const {
        return unexpected(msr.write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR);
    }
    std::string operator()(const kvm::HypercallExit&) const {
        return unexpected(KVM_EXIT_HYPERCALL);
    }

    static std::string unexpected(std::uint32_t reason) {
        return "left the guest in a way that this machine does not handle (exit reason " +
               std::to_string(reason) + ")";
    }
};

}  // namespace

std::string describe_exit(const kvm::Exit& exit) {
    return std::visit(Describe{}, exit);
}

}  // namespace dirtyring::machine
