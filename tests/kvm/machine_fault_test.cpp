// SPDX-License-Identifier: MIT
//
// A guest that goes wrong ends with a report that says what it did, and where.
#include <gtest/gtest.h>

#include "machine/layout.hpp"
#include "machine_fixture.hpp"

namespace dirtyring {
namespace {

using machine::Config;
using machine::End;
using machine::Machine;
namespace layout = machine::layout;

class MachineFaultTest : public MachineTest {
  protected:
    /// The report of vCPU 0, which must have faulted.
    static std::string report(const std::vector<End>& ends) {
        const auto* faulted = std::get_if<machine::Faulted>(&ends.at(0));
        if (faulted == nullptr) {
            ADD_FAILURE() << "did not fault: " << machine::describe(0, ends.at(0));
            return {};
        }
        return faulted->report;
    }

    static std::string report_of(std::initializer_list<std::uint8_t> instructions,
                                 const Config& config = {}) {
        const auto machine = make_flat(instructions, config);
        return report(run(*machine));
    }

    static Config ring0() {
        Config config;
        config.privilege = 0;
        return config;
    }
};

void expect_line(const std::string& report, const std::string& line) {
    EXPECT_EQ(report.substr(0, report.find('\n')), line);
}

void expect_part(const std::string& report, const std::string& part) {
    EXPECT_NE(report.find(part), std::string::npos) << report << "lacks: " << part;
}

TEST_F(MachineFaultTest, NullPointer) {
    const auto machine = make("fault_null", {.rounds = 1});
    const std::string text = report(run(*machine));
    expect_part(text, "vCPU 0 faulted: #PF, page fault, at rip 0x4");
    expect_part(text, " while reading 0x0 (a null pointer), error code 0x4\n");
    expect_part(text, "\n  rip    0000000000");
    expect_part(text, "\n  code   48 8b 00 ");
}

TEST_F(MachineFaultTest, JumpIntoNowhere) {
    const auto machine = make("fault_jump", {.rounds = 1});
    expect_part(report(run(*machine)),
                "at rip 0x700000000000 while executing 0x700000000000 (beyond guest memory, which "
                "ends at 0x4000000), error code 0x");
}

TEST_F(MachineFaultTest, InvalidInstruction) {
    const auto machine = make("fault_ud", {.rounds = 1});
    const std::string text = report(run(*machine));
    expect_part(text, "vCPU 0 faulted: #UD, invalid instruction, at rip 0x4");
    expect_part(text, "\n  code   0f 0b ");
}

TEST_F(MachineFaultTest, OtherVcpusAreStopped) {
    // vCPU 0 runs into ud2, the others go round in circles.
    const auto machine = make_flat({0x85, 0xf6,   // test %esi,%esi
                                    0x75, 0xfe,   // 1: jne 1b
                                    0x0f, 0x0b},  // ud2
                                   {.vcpus = 3});
    const std::vector<End> ends = run(*machine);
    expect_line(report(ends), "vCPU 0 faulted: #UD, invalid instruction, at rip 0x400004");
    EXPECT_TRUE(std::holds_alternative<machine::Stopped>(ends.at(1)));
    EXPECT_TRUE(std::holds_alternative<machine::Stopped>(ends.at(2)));
}

TEST_F(MachineFaultTest, RegistersAreThoseOfTheGuest) {
    const std::string text = report_of({0xb8, 0x11, 0x11, 0x11, 0x11,  // mov $0x11111111,%eax
                                        0xba, 0x22, 0x22, 0x22, 0x22,  // mov $0x22222222,%edx
                                        0x49, 0xc7, 0xc7, 0xff, 0xff, 0xff, 0xff,  // mov $-1,%r15
                                        0x0f, 0x0b});                              // ud2
    expect_part(text, "rip    0000000000400011");
    expect_part(text, "rax    0000000011111111");
    expect_part(text, "rdx    0000000022222222");
    expect_part(text, "r15    ffffffffffffffff");
    expect_part(text, "rsp    " + std::string("0000000000") + "1f1000");
    expect_part(text, "cs     0000000000000023");
}

TEST_F(MachineFaultTest, StackOverflow) {
    expect_part(report_of({0x50,          // 1: push %rax
                           0xeb, 0xfd}),  // jmp 1b
                " while writing 0x1e0ff8 (the guard page below the stack of vCPU 0: the stack has "
                "overflowed its 64 KiB), error code 0x6\n");
}

TEST_F(MachineFaultTest, VmmsOwnMemory) {
    expect_part(
        report_of({0x89, 0x04, 0x25, 0x00, 0x10, 0x00, 0x00}),  // mov %eax,0x1000
        " while writing 0x1000 (memory of the VMM, which ends at 0x400000), error code 0x7\n");
    expect_part(report_of({0x89, 0x07}),  // mov %eax,(%rdi)
                " while writing 0x4000 (the VMM's Info, which is read-only), error code 0x7\n");
}

TEST_F(MachineFaultTest, MemoryPastTheEnd) {
    expect_part(report_of({0x8b, 0x04, 0x25, 0x00, 0x00, 0x00, 0x04}),  // mov 0x4000000,%eax
                " while reading 0x4000000 (beyond guest memory, which ends at 0x4000000)");
}

TEST_F(MachineFaultTest, Exceptions) {
    expect_line(report_of({0x31, 0xc9, 0xf7, 0xf1}),  // xor %ecx,%ecx; div %ecx
                "vCPU 0 faulted: #DE, division error, at rip 0x400002");
    expect_line(report_of({0xcc}),  // int3
                "vCPU 0 faulted: #BP, breakpoint, at rip 0x400001");
    expect_line(report_of({0xf4}),  // hlt
                "vCPU 0 faulted: #GP, general protection, at rip 0x400000, error code 0x0");
}

TEST_F(MachineFaultTest, HaltWithNobodyToWakeIt) {
    expect_part(report_of({0xf4}, ring0()), "vCPU 0 halted, and nothing can wake it");
}

TEST_F(MachineFaultTest, TripleFault) {
    const std::string text =
        report_of({0x48, 0x83, 0xec, 0x10,                                // sub $16,%rsp
                   0x48, 0xc7, 0x04, 0x24, 0x00, 0x00, 0x00, 0x00,        // movq $0,(%rsp)
                   0x48, 0xc7, 0x44, 0x24, 0x08, 0x00, 0x00, 0x00, 0x00,  // movq $0,8(%rsp)
                   0x0f, 0x01, 0x1c, 0x24,                                // lidt (%rsp)
                   0x0f, 0x0b},                                           // ud2
                  ring0());
    expect_part(text, "vCPU 0 triple-faulted (KVM_EXIT_SHUTDOWN)");
    expect_part(text, "\n  rip    ");
}

TEST_F(MachineFaultTest, PortsThatAreNotThere) {
    expect_part(
        report_of({0xba, 0xf8, 0x03, 0x00, 0x00,  // mov $0x3f8,%edx
                   0xec}),                        // in (%dx),%al
        "vCPU 0 read 1 byte from port 0x3f8, which is not how a guest of this machine talks");
    expect_part(report_of({0xba, 0x01, 0x05, 0x00, 0x00,  // mov $0x501,%edx
                           0xee}),                        // out %al,(%dx)
                "vCPU 0 wrote 1 byte to port 0x501, ");
    expect_part(report_of({0xe7, 0x80}),  // out %eax,$0x80
                "vCPU 0 wrote 4 bytes to port 0x80, ");
}

TEST_F(MachineFaultTest, FaultPortUsedByTheGuestItself) {
    expect_part(report_of({0xba, 0x03, 0x05, 0x00, 0x00,  // mov $0x503,%edx
                           0xb8, 0x0e, 0x00, 0x00, 0x00,  // mov $14,%eax
                           0xef}),                        // out %eax,(%dx)
                "vCPU 0 wrote 4 bytes to port 0x503, ");
}

TEST_F(MachineFaultTest, PhysicalAddressWithoutMemory) {
    const auto machine =
        make_flat({0x8b, 0x04, 0x25, 0x00, 0x00, 0x60, 0x00});  // mov 0x600000,%eax
    // The guest cannot do this by itself: 0x600000 is mapped to where no slot is.
    constexpr std::uint64_t address = 0xd000'0000;
    constexpr std::uint64_t flags = 0xe7;  // large, dirty, accessed, user, writable, present
    const std::uint64_t entry = address | flags;
    std::memcpy(machine->bytes().subspan(layout::page_directories + 3 * sizeof entry).data(),
                &entry, sizeof entry);
    expect_part(report(run(*machine)),
                "vCPU 0 read guest-physical address 0xd0000000, where there is no memory");
}

}  // namespace
}  // namespace dirtyring
