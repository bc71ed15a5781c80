// SPDX-License-Identifier: MIT
#include "totals.hpp"

#include <algorithm>

namespace dirtyring::cli {

namespace {

void add_sums(VcpuFigures& to, const VcpuFigures& more) {
    to.entries += more.entries;
    to.distinct += more.distinct;
    to.full_exits += more.full_exits;
    to.overruns += more.overruns;
    to.lost += more.lost;
    to.page_writes += more.page_writes;
    to.peak_fill = std::max(to.peak_fill, more.peak_fill);
}

}  // namespace

void Totals::add(const Interval& interval) {
    duration_ns_ = interval.end_ns;
    ++intervals_;
    everything_ += interval.everything ? 1U : 0U;
    page_changes_ += interval.pages();
    harvest_ns_ += interval.harvest_ns;
    reset_ns_ += interval.reset_ns;
    for (std::size_t i = 0; i < vcpus_.size(); ++i) {
        add_sums(vcpus_[i], interval.vcpus[i]);
        vcpus_[i].rounds += interval.vcpus[i].rounds;
    }
    for (const Span& span : interval.spans) {
        for (std::uint64_t page = span.first; page < span.first + span.count; ++page) {
            seen_.insert(page);
        }
    }
}

VcpuFigures together(const std::vector<VcpuFigures>& vcpus) noexcept {
    VcpuFigures all;
    if (!vcpus.empty()) {
        all.rounds = std::ranges::min(vcpus, {}, &VcpuFigures::rounds).rounds;
    }
    for (const VcpuFigures& vcpu : vcpus) {
        add_sums(all, vcpu);
    }
    return all;
}

}  // namespace dirtyring::cli
