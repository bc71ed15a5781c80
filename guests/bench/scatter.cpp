// SPDX-License-Identifier: MIT
//
// Writes the same pages in each round, a given number of them, all over its memory, and hardly
// anything else: a measurement wants to know how many pages a round dirties.
//
// Each page must hold what the round before stored there.
#include "runtime.hpp"
#include "scatter_plan.hpp"

namespace dirtyring::guest {
namespace {

constexpr std::array parameters = {
    Parameter{"working_set", "16M", "bytes of memory that the pages lie in", guest_abi::page_size,
              std::uint64_t{1} << 44},
    Parameter{"writes", "1000", "pages written in a round, all vCPUs together", 1,
              std::uint64_t{1} << 26},
};

constinit std::uint64_t* working_set = nullptr;
constinit std::uint64_t working_set_pages = 0;
constinit std::uint64_t writes = 0;

// At another place in each page, so that they do not all want the same lines of a cache.
std::uint64_t& word_of(std::uint64_t page) {
    return working_set[page * (guest_abi::page_size / sizeof(std::uint64_t)) + page % 512];
}

void plan() {
    working_set_pages = number("working_set") / guest_abi::page_size;
    writes = number("writes");
    if (writes > working_set_pages) {
        refuse("writes=", writes, " is more than the ", working_set_pages,
               " pages of the working set");
    }
    working_set =
        allocate<std::uint64_t>(working_set_pages * guest_abi::page_size / sizeof(std::uint64_t));
}

std::uint64_t round(std::uint32_t vcpu, std::uint64_t round) {
    const ScatterPlan plan(working_set_pages, writes);
    const Slice share = slice(writes, vcpu, vcpu_count());
    for (std::uint64_t number = share.begin; number < share.end; ++number) {
        const std::uint64_t page = plan.page(number);
        std::uint64_t& word = word_of(page);
        if (word != round - 1) {
            fail("page ", page, " of the working set holds ", word, " in round ", round);
        }
        word = round;
    }
    return share.end - share.begin;
}

}  // namespace

constinit const Program program = {
    .name = "scatter", .parameters = parameters, .plan = plan, .round = round};

}  // namespace dirtyring::guest
