// SPDX-License-Identifier: MIT
#include "hot_pages.hpp"

#include <algorithm>

namespace dirtyring {

HotPages::HotPages(std::uint64_t capacity, std::uint64_t most)
    : hot_(capacity), known_(static_cast<std::size_t>(capacity)), most_(most) {}

// Whether such pages are worth being hot: what one that is written in the next round wins, against
// what one that is not loses until its first trial. One in eight is armed all the same, as nobody
// would see any longer otherwise.
bool HotPages::pays(Class& pages) const noexcept {
    const double lost = static_cast<double>(first_trial) * costs_.use;
    return pages.came_back * costs_.armed > (pages.could_have - pages.came_back) * lost &&
           ++pages.asked % 8 != 0;
}

bool HotPages::make_hot(std::uint64_t page, unsigned level) {
    if (size_ == most_) {
        return false;
    }
    level = std::min(level, levels - 1);
    hot_.insert(page);
    changed_ = true;
    ++size_;
    known_[page] = static_cast<std::uint8_t>(hot | level);
    queues_[level].waiting.push_back({page, round_ + (first_trial << level)});
    return true;
}

// True: it is hot now. Otherwise it is of that kind.
bool HotPages::written_while_armed(std::uint64_t page, Class& pages, std::uint8_t kind) {
    if (pays(pages) && make_hot(page, 0)) {
        ++new_ones_;
        return true;
    }
    known_[page] = static_cast<std::uint8_t>(kind | parity());
    seen_[round_ & 1].push_back(page);
    ++pages.members[round_ & 1];
    return false;
}

bool HotPages::written(std::uint64_t page) {
    const std::uint8_t known = known_[page];
    const bool this_round = (known & 0x10) == parity();
    switch (known & kind_bits) {
        case hot:
        case clean:
            return true;
        case trial:
            return make_hot(page, (known & level_bits) + 1U) ||
                   written_while_armed(page, twice_, twice);
        case seen:
            once_.returned += this_round ? 0U : 1U;
            return written_while_armed(page, twice_, twice);
        case twice:
            twice_.returned += this_round ? 0U : 1U;
            return written_while_armed(page, twice_, twice);
        default:
            return written_while_armed(page, once_, seen);
    }
}

void HotPages::found_clean(std::uint64_t page) {
    const std::uint8_t known = known_[page];
    if ((known & kind_bits) == hot) {
        known_[page] = clean | (known & level_bits);
        clean_.push_back(page);
    } else if ((known & kind_bits) != clean) {
        return;  // armed
    }
    wasted_ += costs_.use;
}

void HotPages::arm(std::uint64_t page) {
    hot_.erase(page);
    changed_ = true;
    --size_;
    known_[page] = static_cast<std::uint8_t>(trial | parity() | (known_[page] & level_bits));
    trials_[round_ & 1].push_back(page);
}

// The first page of a level that is hot and due in that round or before.
std::optional<std::uint64_t> HotPages::take_from_queue(unsigned level, std::uint64_t due) {
    Queue& queue = queues_[level];
    while (queue.head < queue.waiting.size() && queue.waiting[queue.head].due <= due) {
        const std::uint64_t page = queue.waiting[queue.head++].page;
        if (known_[page] == (hot | level)) {
            arm(page);
            return page;
        }
    }
    return std::nullopt;
}

std::optional<std::uint64_t> HotPages::take_due() {
    const bool early = new_ones_ != 0;
    new_ones_ -= early ? 1U : 0U;
    if (!clean_.empty()) {
        const std::uint64_t page = clean_.back();
        clean_.pop_back();
        if (clean_.empty()) {
            wasted_ = 0;
        }
        arm(page);
        return page;
    }
    for (unsigned level = 0; level < levels; ++level) {
        if (const std::optional<std::uint64_t> page = take_from_queue(level, round_)) {
            return page;
        }
    }
    for (unsigned level = 0; early && level < levels; ++level) {
        // Not one that has become hot in this round.
        const std::uint64_t before = round_ + (first_trial << level);
        if (const std::optional<std::uint64_t> page = take_from_queue(level, before - 1)) {
            return page;
        }
    }
    return std::nullopt;
}

void HotPages::end_round() {
    const std::size_t before = (round_ & 1) ^ 1;
    const auto before_parity = static_cast<std::uint8_t>(parity() ^ 0x10);
    for (Class* const pages : {&once_, &twice_}) {
        constexpr double keep = 0.75;
        pages->came_back = keep * pages->came_back + static_cast<double>(pages->returned);
        pages->could_have = keep * pages->could_have + static_cast<double>(pages->members[before]);
        pages->returned = 0;
        pages->members[before] = 0;
    }
    for (const std::uint64_t page : seen_[before]) {
        const std::uint8_t known = known_[page];
        if (known == (seen | before_parity) || known == (twice | before_parity)) {
            known_[page] = 0;
        }
    }
    for (const std::uint64_t page : trials_[before]) {
        if ((known_[page] & ~level_bits) == (trial | before_parity)) {
            known_[page] = 0;
        }
    }
    seen_[before].clear();
    trials_[before].clear();
    for (Queue& queue : queues_) {
        if (queue.head > queue.waiting.size() / 2) {
            queue.waiting.erase(queue.waiting.begin(),
                                queue.waiting.begin() + static_cast<std::ptrdiff_t>(queue.head));
            queue.head = 0;
        }
    }
    new_ones_ = 0;
    ++round_;
}

std::span<const PageWord> HotPages::words() {
    if (changed_) {
        words_.clear();
        hot_.for_each_word(
            [&](std::size_t index, std::uint64_t bits) { words_.push_back({index, bits}); });
        changed_ = false;
    }
    return words_;
}

bool HotPages::worth_arming_all(double nanoseconds) const noexcept {
    return wasted_ > nanoseconds + static_cast<double>(size_) * costs_.armed;
}

void HotPages::all_armed() {
    const std::uint8_t now = trial | parity();
    hot_.for_each([&](std::uint64_t page) {
        known_[page] = static_cast<std::uint8_t>(now | (known_[page] & level_bits));
        trials_[round_ & 1].push_back(page);
    });
    hot_.clear();
    changed_ = true;
    size_ = 0;
    clean_.clear();
    wasted_ = 0;
}

}  // namespace dirtyring
