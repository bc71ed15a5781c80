// SPDX-License-Identifier: MIT
#include "dirtyring/source/bitmap_source.hpp"

#include <bit>
#include <utility>

#include "hot_pages.hpp"

namespace dirtyring {

BitmapSource::BitmapSource(const kvm::Fd& vm, const MemoryMap& map, BitmapMode mode)
    : mode_(mode), log_(vm, mode), pending_(map) {}

BitmapSource::~BitmapSource() = default;

void BitmapSource::set_memory(const MemoryMap& map, AllVcpusStopped) {
    const std::lock_guard lock(mutex_);
    DirtySet pending(map);
    pending.merge_over(pending_);
    pending_ = std::move(pending);
    // Pages that were hot are still dirty in the kernel's bitmap.
    if (hot_) {
        hot_ = std::make_unique<HotPages>(pending_.numbers(), most_hot_);
        trials_ = PageSet(pending_.numbers());
    }
}

MemoryMap BitmapSource::memory() const {
    const std::lock_guard lock(mutex_);
    return pending_.memory();
}

void BitmapSource::keep_hot(std::uint64_t most) {
    const std::lock_guard lock(mutex_);
    most_hot_ = mode_ == BitmapMode::manual ? most : 0;
    hot_ = most_hot_ != 0 ? std::make_unique<HotPages>(pending_.numbers(), most_hot_) : nullptr;
    trials_ = PageSet(hot_ ? pending_.numbers() : 0);
}

void BitmapSource::set_hot_costs(const HotPageCosts& costs) {
    const std::lock_guard lock(mutex_);
    if (hot_) {
        hot_->set_costs(costs);
    }
}

void BitmapSource::found_clean(const DirtySet& pages) {
    const std::lock_guard lock(mutex_);
    if (hot_) {
        pages.for_each_number([&](std::uint64_t number) { hot_->found_clean(number); });
        hot_->told();
    }
}

std::uint64_t BitmapSource::hot() const {
    const std::lock_guard lock(mutex_);
    return hot_ ? hot_->size() : 0;
}

std::uint64_t BitmapSource::to_arm(std::size_t place, std::size_t index, std::uint64_t bits) {
    const std::uint64_t first = pending_.number(pending_.memory().slots()[place].slot, 0);
    std::uint64_t arm = 0;
    for (std::uint64_t rest = bits; rest != 0; rest &= rest - 1) {
        const std::uint64_t bit = rest & (~rest + 1);
        const std::uint64_t number =
            first + std::uint64_t{index} * 64 + static_cast<unsigned>(std::countr_zero(rest));
        const bool stays =
            hot_->pages().contains(number) || (!trials_.contains(number) && hot_->written(number));
        arm |= stays ? 0 : bit;
    }
    return arm;
}

Result<Pages> BitmapSource::collect(DirtySet storage) {
    const std::lock_guard lock(mutex_);
    storage.prepare(pending_.memory());
    if (pending_.empty()) {
        // What was used last is in the CPU's caches, and the other set stays out of them.
        std::swap(pending_, storage);
    }
    DirtyLog::Plan plan;
    if (hot_) {
        while (const std::optional<std::uint64_t> due = hot_->take_due()) {
            trials_.insert(*due);
        }
        plan = [this](std::size_t place, std::size_t index, std::uint64_t bits) {
            return to_arm(place, index, bits);
        };
    }
    Result<void> read = log_.read(pending_, plan);
    trials_.clear();
    if (!read) {
        return fail(std::move(read.error()));
    }
    if (hot_) {
        hot_->end_round();
    }
    return Pages(std::exchange(pending_, std::move(storage)), Rearmed());
}

}  // namespace dirtyring
