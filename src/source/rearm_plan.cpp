// SPDX-License-Identifier: MIT
#include "rearm_plan.hpp"

namespace dirtyring {

void RearmPlan::set_memory(const MemoryMap& map) {
    armed_.prepare(map);
    keep_hot(most_);
}

void RearmPlan::keep_hot(std::uint64_t most) {
    most_ = most;
    hot_.reset();
    if (most != 0) {
        hot_.emplace(armed_.numbers(), most);
    }
}

std::uint64_t RearmPlan::apply(const Ring::Batch& batch, DirtySet& pages) {
    std::uint64_t fresh = 0;
    std::uint32_t places = batch.size();  // that no page to be armed needs
    for (std::uint32_t i = 0; i < batch.size(); ++i) {
        const RingEntry entry = batch[i];
        fresh += pages.insert(entry.slot, entry.offset) ? 1U : 0U;
        const std::uint64_t number = pages.number(entry.slot, entry.offset);
        const bool arm = number != DirtySet::no_number && !(hot_ && hot_->written(number));
        places -= arm && armed_.insert_number(number) ? 1U : 0U;
    }
    for (; hot_ && places != 0; --places) {
        const std::optional<std::uint64_t> due = hot_->take_due();
        if (!due) {
            break;
        }
        pages.insert_number(*due);  // not fresh: no entry named it
        armed_.insert_number(*due);
    }
    std::uint32_t next = 0;
    for (std::size_t place = 0; place < armed_.memory().slots().size(); ++place) {
        const std::uint32_t slot = armed_.memory().slots()[place].slot;
        armed_.pages(place).for_each(
            [&](std::uint64_t page) { batch.rewrite(next++, {slot, page}); });
    }
    while (next != batch.size()) {
        batch.rewrite(next++, {Ring::Batch::no_slot, 0});
    }
    armed_.clear();
    return fresh;
}

}  // namespace dirtyring
