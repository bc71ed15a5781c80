// SPDX-License-Identifier: MIT
//
// Writes pages at random places as its host tells it to, and hardly anything else: what a guest
// looks like that is reset to a snapshot after each round, to a measurement that wants to know how
// many pages a round dirties. What to do stands in the first page of the working set, where the
// host puts it (ReplayOrder); the guest itself does not remember.
#include "replay_plan.hpp"
#include "runtime.hpp"

namespace dirtyring::guest {
namespace {

constexpr std::array parameters = {
    Parameter{"working_set", "16M", "bytes of memory that the pages lie in",
              2 * guest_abi::page_size, std::uint64_t{1} << 44},
    Parameter{"writes", "1000", "pages written in a round, all vCPUs together", 1,
              std::uint64_t{1} << 26},
    Parameter{"lifetime", "0", "rounds after which another page is written; 0: never", 0,
              std::uint64_t{1} << 32},
};

constinit std::uint64_t* working_set = nullptr;
constinit std::uint64_t working_set_pages = 0;
constinit std::uint64_t writes = 0;
constinit std::uint64_t lifetime = 0;

void plan() {
    working_set_pages = number("working_set") / guest_abi::page_size;
    writes = number("writes");
    lifetime = number("lifetime");
    working_set =
        allocate<std::uint64_t>(working_set_pages * guest_abi::page_size / sizeof(std::uint64_t));
}

std::uint64_t round(std::uint32_t vcpu, std::uint64_t) {
    const ReplayPlan plan(working_set_pages, lifetime);
    // SAFETY: the working set is aligned for two words and larger; its first page is the order's
    // alone. Volatile, as the host writes it between two rounds.
    const auto* const order = reinterpret_cast<const volatile ReplayOrder*>(working_set);
    const std::uint64_t told = order->round;
    const std::uint64_t count = order->writes != 0 ? order->writes : writes;
    const Slice share = slice(count, vcpu, vcpu_count());
    for (std::uint64_t number = share.begin; number < share.end; ++number) {
        const std::uint64_t page = plan.page(number, told);
        // At another place in each page, so that they do not all want the same lines of a cache.
        working_set[page * (guest_abi::page_size / sizeof(std::uint64_t)) + page % 512] += told + 1;
    }
    return share.end - share.begin;
}

}  // namespace

constinit const Program program = {
    .name = "replay", .parameters = parameters, .plan = plan, .round = round};

}  // namespace dirtyring::guest
