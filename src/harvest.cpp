// SPDX-License-Identifier: MIT
#include "dirtyring/harvest.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <utility>

#include "sys.hpp"

namespace dirtyring {

void Harvest::set_memory(const MemoryMap& map) {
    DirtySet set(map);
    set.merge_over(set_);
    set_ = std::move(set);
}

std::uint32_t Harvest::take(Ring& ring) noexcept {
    DirtySet::Inserter pages(set_);
    const std::uint32_t entries =
        ring.consume([&pages](RingEntry entry) { pages.insert(entry.slot, entry.offset); });
    pages.finish();
    unreset_ += entries;
    return entries;
}

std::uint32_t Harvest::take(Ring& ring, std::uint64_t& fresh) noexcept {
    DirtySet::Inserter pages(set_);
    std::uint64_t count = 0;  // in a register, as `fresh` cannot be
    const std::uint32_t entries = ring.consume(
        [&](RingEntry entry) { count += pages.insert(entry.slot, entry.offset) ? 1U : 0U; });
    pages.finish();
    fresh += count;
    unreset_ += entries;
    return entries;
}

Result<std::uint32_t> ResetHandle::reset_once() const {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    if (const int blocked = sys::thread_sigmask(SIG_SETMASK, &all, &before); blocked < 0) {
        return fail({-blocked, "pthread_sigmask(block all signals)", {}, {}});
    }
    // SAFETY: KVM_RESET_DIRTY_RINGS takes no argument.
    const int result = sys::ioctl(vm_.get(), KVM_RESET_DIRTY_RINGS, nullptr);
    // Restoring a mask that was just read cannot fail.
    static_cast<void>(sys::thread_sigmask(SIG_SETMASK, &before, nullptr));
    if (result < 0) {
        return fail({-result,
                     "KVM_RESET_DIRTY_RINGS",
                     result == -EINVAL ? "this VM has no dirty rings" : std::string(),
                     {}});
    }
    return static_cast<std::uint32_t>(result);
}

Result<ResetReport> ResetHandle::settle(Harvest& harvest) const {
    ResetReport report;
    while (harvest.unreset_ != 0) {
        Result<std::uint32_t> reset = reset_once();
        if (!reset) {
            return fail(std::move(reset.error()));
        }
        ++report.calls;
        report.entries += *reset;
        if (*reset == 0) {
            report.missing = std::exchange(harvest.unreset_, 0);
            break;
        }
        // There was more to take than the call before this one took.
        report.short_return |= harvest.partly_reset_;
        harvest.unreset_ -= std::min<std::uint64_t>(harvest.unreset_, *reset);
        harvest.partly_reset_ = harvest.unreset_ != 0;
    }
    harvest.partly_reset_ = false;
    return report;
}

Result<Pages> ResetHandle::reset(Harvest&& harvest, ResetReport* report) const {
    Result<ResetReport> settled = settle(harvest);
    if (!settled) {
        return fail(std::move(settled.error()));
    }
    if (report != nullptr) {
        *report = *settled;
    }
    Pages pages(std::move(harvest.set_), Rearmed());
    if (settled->suspect()) {
        pages.mark_everything();
    }
    return pages;
}

}  // namespace dirtyring
