// SPDX-License-Identifier: MIT
#include "hot_pages.hpp"

#include <algorithm>
#include <bit>

namespace dirtyring {

HotPages::HotPages(std::uint64_t capacity, std::uint64_t most)
    : hot_(capacity), known_(static_cast<std::size_t>(capacity)), most_(most) {}

// Whether such pages are worth being hot: what one that is written in the next round wins, against
// what one that is not loses until its first trial, on average. One in eight is armed all the same,
// as nobody would see any longer otherwise.
bool HotPages::pays(Class& pages) const noexcept {
    const double lost = static_cast<double>(period) / 2 * costs_.use;
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
    const unsigned level = known & level_bits;
    if ((known & kind_bits) == hot) {
        if (!turn(page, std::uint64_t{1} << level)) {
            return;
        }
        known_[page] = static_cast<std::uint8_t>(clean | level);
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

bool HotPages::due(std::uint64_t page) const noexcept {
    // Mostly not, which is seen without a look at what is known.
    return turn(page, period) && turn(page, period << (known_[page] & level_bits));
}

void HotPages::list_trials() {
    to_try_.clear();
    const auto add_where = [&](auto&& wanted) {
        for (const PageWord& word : words_) {
            for (std::uint64_t bits = word.bits; bits != 0; bits &= bits - 1) {
                const std::uint64_t page =
                    std::uint64_t{word.index} * 64 + static_cast<unsigned>(std::countr_zero(bits));
                if (wanted(page)) {
                    to_try_.push_back(page);
                }
            }
        }
    };
    add_where([&](std::uint64_t page) { return due(page); });
    due_ = to_try_.size();
    // Those that are due among them, too: when these are reached they are no longer hot.
    add_where([&](std::uint64_t page) { return page >= hand_; });
    add_where([&](std::uint64_t page) { return page < hand_; });
    next_try_ = 0;
    listed_ = true;
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
    if (told_ && !early) {
        return std::nullopt;
    }
    if (!listed_) {
        list_trials();
    }
    while (next_try_ < (early ? to_try_.size() : due_)) {
        const std::uint64_t page = to_try_[next_try_];
        hand_ = next_try_ < due_ ? hand_ : page + 1;
        ++next_try_;
        if ((known_[page] & kind_bits) == hot) {
            arm(page);
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
    new_ones_ = 0;
    told_ = false;
    static_cast<void>(words());  // those that the next round may try
    listed_ = false;
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
