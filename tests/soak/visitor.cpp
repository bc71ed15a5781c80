// SPDX-License-Identifier: MIT
#include "visitor.hpp"

#include <algorithm>
#include <array>
#include <mutex>
#include <stdexcept>
#include <string>
#include <variant>

#include "dirtyring/kvm/run.hpp"
#include "guests/abi.hpp"
#include "machine/boot.hpp"
#include "must.hpp"

namespace dirtyring::soak {

namespace {

// r11 random pages out of 1,024 from r10 on, then an exit, and so on without end.
constexpr std::array<std::uint8_t, 33> program = {
    0x4c, 0x89, 0xd9,        // 1: mov %r11,%rcx
    0x49, 0x0f, 0xaf, 0xc0,  // 2: imul %r8,%rax
    0x4c, 0x01, 0xc8,        //    add %r9,%rax
    0x48, 0x89, 0xc6,        //    mov %rax,%rsi
    0x48, 0xc1, 0xee, 0x36,  //    shr $54,%rsi
    0x48, 0xc1, 0xe6, 0x0c,  //    shl $12,%rsi
    0x49, 0x89, 0x04, 0x32,  //    mov %rax,(%r10,%rsi)
    0x48, 0xff, 0xc9,        //    dec %rcx
    0x75, 0xe5,              //    jnz 2b
    0xef,                    //    out %eax,(%dx)
    0xeb, 0xdf,              //    jmp 1b
};
static_assert(VisitorRange::data_pages == std::uint64_t{1} << (64 - 54));

void prepare(const kvm::System& system, const kvm::Vcpu& vcpu, const VisitorRange& range,
             std::uint64_t seed) {
    must(vcpu.set_cpuid2(must(system.get_supported_cpuid())));
    // As vCPU 0: it shares that one's task segment, which is only read.
    must(machine::set_registers(vcpu, 0, {.privilege = 3}, range.code));
    kvm_regs regs = must(vcpu.get_regs());
    regs.rax = seed;
    regs.r8 = 6364136223846793005;  // of Knuth's MMIX generator, as the next
    regs.r9 = 1442695040888963407;
    regs.r10 = range.data;
    regs.r11 = Visitors::writes_a_burst;
    regs.rdx = guest_abi::round_port;
    must(vcpu.set_regs(regs));
}

// Until its `out`, and then until that is complete.
void burst(kvm::Run& run, Tracker& tracker, std::size_t number) {
    for (bool done = false;;) {
        const kvm::Exit exit = must(run.run());
        if (std::holds_alternative<kvm::RingFullExit>(exit)) {
            must(tracker.ring_full(number));
        } else if (std::holds_alternative<kvm::IoExit>(exit)) {
            done = true;
            run.request_exit();
        } else if (!std::holds_alternative<kvm::IntrExit>(exit)) {
            throw std::runtime_error(
                "a visiting vCPU has left the guest for no reason of its own: "
                "exit " +
                std::to_string(run.raw().exit_reason));
        } else if (done) {
            run.clear_exit_request();
            return;
        }
    }
}

}  // namespace

Visitors::Visitors(machine::Machine& machine, const VisitorRange& range)
    : machine_(machine), range_(range), system_(must(kvm::System::open())) {
    std::ranges::copy(std::as_bytes(std::span(program)),
                      machine.bytes().subspan(range.code).data());
}

void Visitors::visit(Tracker& tracker, std::uint64_t bursts, std::shared_mutex& running) {
    const kvm::Vcpu vcpu = must(machine_.vm().create_vcpu(machine_.vcpu_count() + visits_));
    ++visits_;
    prepare(system_, vcpu, range_, visits_);
    kvm::Run run = must(kvm::Run::map(vcpu));
    const std::size_t number = must(tracker.add_vcpu(vcpu.fd()));
    for (; bursts != 0; --bursts) {
        const std::shared_lock lock(running);
        burst(run, tracker, number);
    }
    must(tracker.remove_vcpu(number, VcpuStopped()));
}

}  // namespace dirtyring::soak
