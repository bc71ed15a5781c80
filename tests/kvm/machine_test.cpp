// SPDX-License-Identifier: MIT
//
// Programs on a machine: what they find when they start, what they can say, and how they end.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "dirtyring/ring.hpp"
#include "guests/abi.hpp"
#include "machine_fixture.hpp"

namespace dirtyring {
namespace {

using machine::Config;
using machine::End;
using machine::Machine;

TEST_F(MachineTest, HelloIsHeardFromEachVcpu) {
    const auto machine = make("hello", {.vcpus = 2});
    expect_success(run(*machine));
    const std::string console = machine->console();
    EXPECT_NE(console.find("hello: vCPU 0 of 2\n"), std::string::npos) << console;
    EXPECT_NE(console.find("hello: vCPU 1 of 2\n"), std::string::npos) << console;
}

TEST_F(MachineTest, FailureEndsTheMachineWithItsStatus) {
    const auto machine = make("fail", {.vcpus = 4, .rounds = 1});
    const std::vector<End> ends = run(*machine);
    EXPECT_TRUE(std::ranges::any_of(ends, [](const End& end) {
        const auto* exited = std::get_if<machine::Exited>(&end);
        return exited != nullptr && exited->status == 1;
    }));
    for (std::uint32_t i = 0; i < ends.size(); ++i) {
        EXPECT_FALSE(machine::succeeded(ends[i])) << machine::describe(i, ends[i]);
    }
    EXPECT_NE(machine->console().find("fails, as it is meant to"), std::string::npos);
}

TEST_F(MachineTest, GuestThatHangsIsStopped) {
    const auto machine = make("hang", {.vcpus = 2});
    must(machine->start());
    EXPECT_FALSE(machine->wait_done(std::chrono::milliseconds(100)));
    machine->stop();
    machine->stop();
    for (const End& end : wait(*machine)) {
        EXPECT_TRUE(std::holds_alternative<machine::Stopped>(end)) << machine::describe(0, end);
    }
}

TEST_F(MachineTest, EveryGuestRunsOnTwoVcpus) {
    const std::vector<std::pair<const char*, std::vector<std::pair<std::string, std::string>>>>
        guests = {{"hash_table", {{"keys", "1000"}, {"operations", "1000"}}},
                  {"merge_sort", {{"records", "1000"}, {"run", "100"}}},
                  {"spmv", {{"rows", "1000"}, {"iterations", "1"}}},
                  {"log_store", {{"keys", "1000"}, {"operations", "1000"}}},
                  {"writer", {{"working_set", "1M"}, {"writes", "1000"}}}};
    for (const auto& [guest, params] : guests) {
        const auto machine = make(guest, {.vcpus = 2, .rounds = 1, .params = params});
        expect_success(run(*machine));
        EXPECT_EQ(machine->counters(0).rounds, 1U) << guest;
        EXPECT_GT(machine->counters(0).page_writes + machine->counters(1).page_writes, 0U) << guest;
        EXPECT_NE(machine->console().find("all checks passed"), std::string::npos)
            << guest << ": " << machine->console();
    }
}

TEST_F(MachineTest, SixteenVcpus) {
    const auto machine =
        make_flat({0x89, 0xf0,                                // mov %esi,%eax
                   0xc1, 0xe0, 0x0c,                          // shl $12,%eax
                   0x89, 0xb0, 0x00, 0x00, 0x50, 0x00,        // mov %esi,0x500000(%rax)
                   0x48, 0x89, 0xa0, 0x08, 0x00, 0x50, 0x00,  // mov %rsp,0x500008(%rax)
                   0xba, 0x01, 0x05, 0x00, 0x00,              // mov $0x501,%edx
                   0x31, 0xc0,                                // xor %eax,%eax
                   0xef},                                     // out %eax,(%dx)
                  {.vcpus = 16});
    expect_success(run(*machine));
    std::uint64_t last_stack = 0;
    for (std::uint64_t i = 0; i < 16; ++i) {
        EXPECT_EQ(word(*machine, 0x500000 + i * page_size), i);
        const std::uint64_t stack = word(*machine, 0x500008 + i * page_size);
        EXPECT_GE(stack, last_stack + (64 << 10)) << "the stack of vCPU " << i;
        last_stack = stack;
    }
}

TEST_F(MachineTest, ParametersReachTheGuestByName) {
    const auto machine = make("writer", {.rounds = 1, .params = {{"pattern", "zigzag"}}});
    EXPECT_EQ(status(run(*machine)), 2U);
    EXPECT_NE(machine->console().find("zigzag"), std::string::npos) << machine->console();
}

TEST_F(MachineTest, FlatBinaryIsEnteredAtItsFirstByte) {
    const auto machine = make_flat({0xba, 0x01, 0x05, 0x00, 0x00,  // mov $0x501,%edx
                                    0x31, 0xc0,                    // xor %eax,%eax
                                    0xef});                        // out %eax,(%dx)
    EXPECT_EQ(status(run(*machine)), 0U);
}

TEST_F(MachineTest, GuestStartsInTheRingAskedFor) {
    for (const int privilege : {3, 0}) {
        Config config;
        config.privilege = privilege;
        const auto machine = make_flat({0x8c, 0xc8,                    // mov %cs,%eax
                                        0x83, 0xe0, 0x03,              // and $3,%eax
                                        0xba, 0x01, 0x05, 0x00, 0x00,  // mov $0x501,%edx
                                        0xef},                         // out %eax,(%dx)
                                       config);
        EXPECT_EQ(status(run(*machine)), static_cast<std::uint32_t>(privilege));
    }
}

TEST_F(MachineTest, FloatingPointUnitIsInItsUsualState) {
    const auto machine = make_flat({0x48, 0x83, 0xec, 0x08,        // sub $8,%rsp
                                    0x0f, 0xae, 0x1c, 0x24,        // stmxcsr (%rsp)
                                    0xd9, 0x7c, 0x24, 0x04,        // fnstcw 4(%rsp)
                                    0x8b, 0x04, 0x24,              // mov (%rsp),%eax
                                    0x0f, 0xb7, 0x4c, 0x24, 0x04,  // movzwl 4(%rsp),%ecx
                                    0xc1, 0xe1, 0x10,              // shl $16,%ecx
                                    0x09, 0xc8,                    // or %ecx,%eax
                                    0xba, 0x01, 0x05, 0x00, 0x00,  // mov $0x501,%edx
                                    0xef});                        // out %eax,(%dx)
    EXPECT_EQ(status(run(*machine)), 0x037f1f80U);
}

TEST_F(MachineTest, StringToTheConsoleArrivesWhole) {
    const auto machine = make_flat({0xba, 0xf8, 0x03, 0x00, 0x00,  // mov $0x3f8,%edx
                                    0xbe, 0x00, 0x00, 0x50, 0x00,  // mov $0x500000,%esi
                                    0xb9, 0x88, 0x13, 0x00, 0x00,  // mov $5000,%ecx
                                    0xf3, 0x6e,                    // rep outsb
                                    0xba, 0x01, 0x05, 0x00, 0x00,  // mov $0x501,%edx
                                    0x31, 0xc0,                    // xor %eax,%eax
                                    0xef});                        // out %eax,(%dx)
    std::string text;
    while (text.size() < 5'000) {
        text += std::to_string(text.size()) + " ";
    }
    text.resize(5'000);
    std::memcpy(machine->bytes().subspan(0x500000).data(), text.data(), text.size());
    EXPECT_EQ(status(run(*machine)), 0U);
    EXPECT_EQ(machine->console(), text);
}

TEST_F(MachineTest, StringToTheExitPortEndsAtItsFirstElement) {
    const auto machine = make_flat({0xba, 0x01, 0x05, 0x00, 0x00,              // mov $0x501,%edx
                                    0xbe, 0x00, 0x00, 0x50, 0x00,              // mov $0x500000,%esi
                                    0x48, 0xc7, 0xc1, 0xff, 0xff, 0xff, 0xff,  // mov $-1,%rcx
                                    0xf3, 0x6f});                              // rep outsl
    machine->bytes()[0x500000] = std::byte{9};
    EXPECT_EQ(status(run(*machine)), 9U);
}

TEST_F(MachineTest, ConsoleCallbackTakesWhatTheConsoleWouldKeep) {
    std::mutex mutex;
    std::string heard;
    const auto machine = make("hello", {.vcpus = 2}, {.on_console = [&](std::string_view text) {
                                  const std::lock_guard lock(mutex);
                                  heard += text;
                              }});
    expect_success(run(*machine));
    EXPECT_NE(heard.find("hello: vCPU 1 of 2\n"), std::string::npos) << heard;
    EXPECT_EQ(machine->console(), "");
}

TEST_F(MachineTest, RoundsAreCountedAndTold) {
    std::atomic<std::uint64_t> told = 0;
    const auto machine =
        make_flat({0xba, 0x02, 0x05, 0x00, 0x00,  // mov $0x502,%edx
                   0xb8, 0xf4, 0x01, 0x00, 0x00,  // mov $500,%eax
                   0xef,                          // out %eax,(%dx)
                   0xff, 0xc0,                    // inc %eax
                   0xef,                          // out %eax,(%dx)
                   0xff, 0xca,                    // dec %edx
                   0x31, 0xc0,                    // xor %eax,%eax
                   0xef},                         // out %eax,(%dx)
                  {.vcpus = 2}, {.on_round = [&](std::uint32_t vcpu, std::uint64_t page_writes) {
                      told += page_writes << (16 * vcpu);
                  }});
    expect_success(run(*machine));
    EXPECT_EQ(told, 1001U << 16 | 1001U);
    for (std::uint32_t i = 0; i < 2; ++i) {
        EXPECT_EQ(machine->counters(i).rounds, 2U);
        EXPECT_EQ(machine->counters(i).page_writes, 1001U);
        EXPECT_GE(machine->counters(i).exits, 3U);
    }
}

// ---- memory -------------------------------------------------------------------------------------

TEST_F(MachineTest, SixteenGibibytesCostOnlyWhatIsTouched) {
    constexpr std::uint64_t memory = std::uint64_t{16} << 30;
    const auto machine =
        make_flat({0x48, 0x8b, 0x4f, 0x08,                    // mov 8(%rdi),%rcx
                   0xb8, 0x00, 0x00, 0x40, 0x00,              // mov $0x400000,%eax
                   0x48, 0x89, 0x80, 0xf8, 0x0f, 0x00, 0x00,  // 1: mov %rax,0xff8(%rax)
                   0x48, 0x05, 0x00, 0x00, 0x00, 0x40,        // add $1<<30,%rax
                   0x48, 0x39, 0xc8,                          // cmp %rcx,%rax
                   0x72, 0xee,                                // jb 1b
                   0xba, 0x01, 0x05, 0x00, 0x00,              // mov $0x501,%edx
                   0x31, 0xc0,                                // xor %eax,%eax
                   0xef},                                     // out %eax,(%dx)
                  {.memory = memory});
    ASSERT_EQ(machine->memory_bytes(), memory);
    ASSERT_EQ(machine->bytes().size(), memory);
    EXPECT_EQ(status(run(*machine)), 0U);
    for (std::uint64_t address = 0x400000; address < memory; address += std::uint64_t{1} << 30) {
        EXPECT_EQ(word(*machine, address + 0xff8), address);
    }

    const auto slots = machine->memory().slots();
    ASSERT_EQ(slots.size(), 2U);
    EXPECT_EQ(slots[0].guest_address, 0U);
    EXPECT_EQ(slots[0].size, std::uint64_t{3} << 30);
    EXPECT_EQ(slots[0].host, machine->bytes().data());
    EXPECT_EQ(slots[1].guest_address, std::uint64_t{4} << 30);
    EXPECT_EQ(slots[1].size, memory - slots[0].size);
    EXPECT_EQ(slots[1].host, machine->bytes().data() + slots[0].size);

    std::vector<unsigned char> resident(memory / page_size);
    ASSERT_EQ(::mincore(machine->bytes().data(), memory, resident.data()), 0);
    const auto pages =
        std::ranges::count_if(resident, [](unsigned char p) { return (p & 1) != 0; });
    EXPECT_GE(pages, 16);
    EXPECT_LT(pages, 1024);
}

TEST_F(MachineTest, LeastMemoryAndHugePages) {
    for (const std::uint64_t memory : {machine::min_memory, std::uint64_t{3} << 30,
                                       (std::uint64_t{3} << 30) + machine::memory_granule}) {
        const auto machine = make("hello", {.memory = memory, .huge_pages = true});
        expect_success(run(*machine));
        EXPECT_EQ(machine->memory().slots().size(), memory > std::uint64_t{3} << 30 ? 2U : 1U);
    }
}

// ---- tracking -----------------------------------------------------------------------------------

TEST_F(MachineTest, FullRingIsToldAndTheGuestGoesOnWhenThereIsRoom) {
    Machine* machine = nullptr;
    std::vector<Ring> rings;
    std::mutex mutex;
    std::atomic<std::uint64_t> told = 0;
    // Each vCPU writes 8,192 pages, from 64 MiB + vCPU * 32 MiB on.
    const auto made = make_flat(
        {0xc1, 0xe6, 0x19,                          // shl $25,%esi
         0x81, 0xc6, 0x00, 0x00, 0x00, 0x04,        // add $0x4000000,%esi
         0xb9, 0x00, 0x20, 0x00, 0x00,              // mov $8192,%ecx
         0x89, 0x0e,                                // 1: mov %ecx,(%rsi)
         0x48, 0x81, 0xc6, 0x00, 0x10, 0x00, 0x00,  // add $4096,%rsi
         0xe2, 0xf5,                                // loop 1b
         0xba, 0x01, 0x05, 0x00, 0x00,              // mov $0x501,%edx
         0x31, 0xc0,                                // xor %eax,%eax
         0xef},                                     // out %eax,(%dx)
        {.vcpus = 2, .memory = std::uint64_t{128} << 20, .ring_entries = 1024, .log_dirty = true},
        {.on_ring_full = [&](std::uint32_t vcpu) -> Result<void> {
            ++told;
            const std::lock_guard lock(mutex);
            rings[vcpu].release(rings[vcpu].peek().size());
            return machine->vm().reset_dirty_rings().map([](int) {});
        }});
    machine = made.get();
    rings.push_back(must(Ring::map(machine->vcpu(0))));
    rings.push_back(must(Ring::map(machine->vcpu(1))));
    expect_success(run(*machine));
    EXPECT_GE(machine->counters(0).ring_full_exits, 8U) << "8,192 pages through a ring of 1,024";
    EXPECT_GE(machine->counters(1).ring_full_exits, 8U);
    EXPECT_EQ(machine->counters(0).ring_full_exits + machine->counters(1).ring_full_exits, told);
    EXPECT_EQ(word(*machine, (128 << 20) - page_size), 1U) << "the last page of the last vCPU";
}

TEST_F(MachineTest, ErrorOfTheRingFullCallbackEndsTheMachine) {
    const Config config{
        .ring_entries = 1024, .log_dirty = true, .params = {{"working_set", "32M"}}};
    const auto machine = make("writer", config, {.on_ring_full = [](std::uint32_t) -> Result<void> {
                                  return fail({ENOSPC, "make room", "there is none", {}});
                              }});
    const std::vector<End> ends = run(*machine);
    const auto* failed = std::get_if<machine::Failed>(&ends.at(0));
    ASSERT_NE(failed, nullptr) << machine::describe(0, ends.at(0));
    EXPECT_EQ(failed->error.code, ENOSPC);
    EXPECT_EQ(failed->error.operation, "make room");
}

TEST_F(MachineTest, FullRingWithoutACallbackEndsTheMachine) {
    const auto machine = make(
        "writer", {.ring_entries = 1024, .log_dirty = true, .params = {{"working_set", "32M"}}});
    const std::vector<End> ends = run(*machine);
    const auto* failed = std::get_if<machine::Failed>(&ends.at(0));
    ASSERT_NE(failed, nullptr) << machine::describe(0, ends.at(0));
    EXPECT_NE(failed->error.message().find("its dirty ring is full"), std::string::npos);
}

TEST_F(MachineTest, ManualProtectKeepsBitsUntilTheyAreCleared) {
    const auto machine = make("writer", {.log_dirty = true,
                                         .manual_protect = true,
                                         .rounds = 1,
                                         .params = {{"writes", "100"}, {"working_set", "1M"}}});
    expect_success(run(*machine));
    const MemorySlot slot = machine->memory().slots()[0];
    std::vector<std::uint64_t> first(slot.pages() / 64);
    must(machine->vm().get_dirty_log(0, first));
    EXPECT_TRUE(std::ranges::any_of(first, [](std::uint64_t bits) { return bits != 0; }));
    std::vector<std::uint64_t> second(first.size());
    must(machine->vm().get_dirty_log(0, second));
    EXPECT_EQ(first, second);
    must(machine->vm().clear_dirty_log(0, 0, static_cast<std::uint32_t>(slot.pages()), first));
    must(machine->vm().get_dirty_log(0, second));
    EXPECT_TRUE(std::ranges::all_of(second, [](std::uint64_t bits) { return bits == 0; }));
}

// Ring 0 is emulated in batches on some KVMs, which then overrun the ring; there and elsewhere the
// guest itself must see its own writes and end.
TEST_F(MachineTest, Ring0FloodRunsUntracked) {
    Config config{.rounds = 1, .params = {{"working_set", "4M"}}};
    config.privilege = 0;
    const auto machine = make("ring0_flood", config);
    expect_success(run(*machine));
    EXPECT_EQ(machine->counters(0).page_writes, 1024U);
}

}  // namespace
}  // namespace dirtyring
