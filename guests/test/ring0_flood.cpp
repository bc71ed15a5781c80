// SPDX-License-Identifier: MIT
//
// Writes page after page, as many in as few instructions as possible, without leaving the guest.
// Meant for ring 0 on a KVM that emulates ring 0 in batches and looks at the dirty ring's limit
// only between them (kvm_pvm): there a batch dirties more pages than the ring has in reserve, and
// the kernel overruns it.
#include "runtime.hpp"

namespace dirtyring::guest {
namespace {

constexpr std::uint64_t words_a_page = guest_abi::page_size / sizeof(std::uint64_t);

constinit std::uint64_t* memory = nullptr;
constinit std::uint64_t pages_each = 0;

void plan() {
    pages_each = number("working_set") / guest_abi::page_size / vcpu_count() / 16 * 16;
    if (pages_each == 0) {
        refuse("working_set must have at least 16 pages for each of ", vcpu_count(), " vCPUs");
    }
    memory = allocate<std::uint64_t>(pages_each * vcpu_count() * words_a_page);
}

// The first word of every page gets the round's number. Sixteen stores for each turn of the loop.
// NOLINTNEXTLINE(readability-non-const-parameter): written through, in assembly
void flood(std::uint64_t* at, const std::uint64_t* end, std::uint64_t round) {
    asm volatile(R"(
    1:
        .set page, 0
        .rept 16
        movq %[round], page*4096(%[at])
        .set page, page + 1
        .endr
        addq $0x10000, %[at]
        cmpq %[end], %[at]
        jb 1b
    )"
                 : [at] "+r"(at)
                 : [end] "r"(end), [round] "r"(round)
                 : "memory", "cc");
}

std::uint64_t round(std::uint32_t vcpu, std::uint64_t round) {
    std::uint64_t* const begin = memory + vcpu * pages_each * words_a_page;
    flood(begin, begin + pages_each * words_a_page, round);
    for (std::uint64_t page = 0; page < pages_each; ++page) {
        const std::uint64_t found = begin[page * words_a_page];
        if (found != round) {
            fail("page ", page, " of vCPU ", vcpu, " holds ", found, " in round ", round);
        }
    }
    return pages_each;
}

constexpr Parameter parameters[] = {
    Parameter{"working_set", "32M", "bytes of memory that are written, all vCPUs together",
              guest_abi::page_size, std::uint64_t{64} << 30},
};

}  // namespace

constinit const Program program = {
    .name = "ring0_flood", .parameters = parameters, .plan = plan, .round = round};

}  // namespace dirtyring::guest
