// SPDX-License-Identifier: MIT
//
// A plain writer: stores iteration numbers into pages of a working set, in an adjustable pattern
// and at an adjustable rate. What it does is laid down in writer_plan.hpp.
//
// Each page that is read or written must hold what was last stored there; after the last round
// every page of the working set is looked at once more.
#include <atomic>

#include "runtime.hpp"
#include "writer_plan.hpp"

namespace dirtyring::guest {
namespace {

constexpr std::array parameters = {
    Parameter{"pattern", "uniform", "order of the pages", 0, 0, writer_pattern_choices},
    Parameter{"rate", "0", "page writes a second, all vCPUs together; 0: as fast as possible", 0,
              std::uint64_t{1} << 32},
    Parameter{"working_set", "64M", "bytes of memory that are read and written",
              guest_abi::page_size, std::uint64_t{1} << 44},
    Parameter{"read_share", "0", "percent of the accesses that are reads", 0, 99},
    Parameter{"stride", "16", "pages from one access to the next with pattern=stride", 1,
              std::uint64_t{1} << 32},
    Parameter{"writes", "1000000", "page writes in a round, all vCPUs together", 1,
              std::uint64_t{1} << 26},
    Parameter{"seed", "1", "start of the random numbers", 0, UINT64_MAX},
};

constinit std::uint64_t* working_set = nullptr;
constinit std::uint64_t* ledger = nullptr;  // the stamp that each page should have; 0: none yet
constinit std::uint64_t working_set_pages = 0;
constinit std::uint64_t writes = 0;
constinit std::uint64_t rate = 0;
constinit double ticks_per_write = 0;  // of one vCPU
constinit WriterPlan common_plan{};
constinit std::atomic<bool> said_slow = false;

std::uint64_t& stamp_of(std::uint64_t page) {
    return working_set[(page * guest_abi::page_size + writer_stamp_offset(page)) /
                       sizeof(std::uint64_t)];
}

void check_page(std::uint64_t page) {
    if (stamp_of(page) != ledger[page]) {
        fail("page ", page, " of the working set holds ", stamp_of(page), ", but ", ledger[page],
             " was last stored there");
    }
}

void plan_rate() {
    rate = number("rate");
    if (rate == 0) {
        return;
    }
    if (tsc_khz() == 0) {
        refuse("rate=", rate,
               " needs the frequency of the TSC, which the VMM does not know here; leave rate out");
    }
    ticks_per_write =
        static_cast<double>(tsc_khz()) * 1000 * vcpu_count() / static_cast<double>(rate);
}

void plan() {
    working_set_pages = number("working_set") / guest_abi::page_size;
    writes = number("writes");
    if (working_set_pages < vcpu_count()) {
        refuse("working_set must have at least a page of ", guest_abi::page_size,
               " bytes for each of ", vcpu_count(), " vCPUs");
    }
    common_plan.pattern = static_cast<WriterPattern>(choice("pattern"));
    common_plan.read_share = number("read_share");
    common_plan.stride = number("stride");
    common_plan.seed = number("seed");
    common_plan.vcpus = vcpu_count();
    plan_rate();
    working_set =
        allocate<std::uint64_t>(working_set_pages * guest_abi::page_size / sizeof(std::uint64_t));
    ledger = allocate<std::uint64_t>(working_set_pages);
}

// Holds one vCPU to its share of the rate.
class Pace {
  public:
    // To be called before each write.
    void wait() {
        const auto due =
            static_cast<std::uint64_t>(ticks_per_write * static_cast<double>(count_++));
        while (__builtin_ia32_rdtsc() - start_ < due) {
            relax();
        }
    }

    // To be called at the end of the round: says so, once, if the round took over 5 % longer than
    // it should.
    void judge(std::uint32_t vcpu) const {
        const double planned = ticks_per_write * static_cast<double>(count_);
        const auto taken = static_cast<double>(__builtin_ia32_rdtsc() - start_);
        if (taken > planned * 1.05 && !said_slow.exchange(true, std::memory_order_relaxed)) {
            const double share = static_cast<double>(rate) / vcpu_count();
            say("cannot hold rate=", rate, ": vCPU ", vcpu, " made ",
                static_cast<std::uint64_t>(share * planned / taken),
                " page writes/s of its share of ", static_cast<std::uint64_t>(share));
        }
    }

  private:
    std::uint64_t start_ = __builtin_ia32_rdtsc();
    std::uint64_t count_ = 0;
};

std::uint64_t round(std::uint32_t vcpu, std::uint64_t round) {
    const Slice pages = slice(working_set_pages, vcpu, vcpu_count());
    const Slice share = slice(writes, vcpu, vcpu_count());
    WriterPlan plan = common_plan;
    plan.pages = pages.end - pages.begin;
    plan.writes = share.end - share.begin;
    plan.vcpu = vcpu;
    WriterRound accesses(plan, round);
    Pace pace;
    while (accesses.more()) {
        const WriterAccess access = accesses.next();
        const std::uint64_t page = pages.begin + access.page;
        if (access.stamp != 0 && rate != 0) {
            pace.wait();
        }
        check_page(page);
        if (access.stamp != 0) {
            stamp_of(page) = access.stamp;
            ledger[page] = access.stamp;
        }
    }
    if (rate != 0) {
        pace.judge(vcpu);
    }
    if (round == last_round()) {
        for (std::uint64_t page = pages.begin; page < pages.end; ++page) {
            check_page(page);
        }
    }
    return plan.writes;
}

}  // namespace

constinit const Program program = {
    .name = "writer", .parameters = parameters, .plan = plan, .round = round};

}  // namespace dirtyring::guest
