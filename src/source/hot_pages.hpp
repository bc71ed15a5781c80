// SPDX-License-Identifier: MIT
//
// Which pages to leave writable, because they are written in most rounds anyway. Nothing of KVM is
// known here: pages are numbers below a capacity, a round is a collect.
//
// A hot page costs its use (a copy, say) in each round, written or not; an armed one costs a fault
// and being armed again in each round that it is written in. So a page is to be hot if it is
// written in more than use / (fault + use) of the rounds. While it is hot nobody sees whether it
// is. Who uses the pages may tell which were not (found_clean, told): those are armed. Else pages
// are armed for a trial. One that comes back at once was rightly hot, and the next time it is
// harder to convince: the second clean use is believed, the fourth, the eighth ..., or it is tried
// in one round of 16, 32, 64 ... So what is lost on a page that has cooled down is never more than
// what was won on it before.
//
// A page can only be armed by an entry of a ring that another page does not need: one of a page
// that stays writable. So trials wait for such carriers (take_due).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "dirtyring/page_set.hpp"
#include "dirtyring/source/source.hpp"

namespace dirtyring {

/// One thread at a time.
class HotPages {
  public:
    /// Of pages below `capacity` at most `most` are hot at a time.
    HotPages(std::uint64_t capacity, std::uint64_t most);

    /// What a page costs, in nanoseconds; above 0.
    void set_costs(const HotPageCosts& costs) noexcept { costs_ = costs; }

    /// The page was found written while it was armed. True: it is hot now (or was already), so it
    /// is not to be armed again.
    bool written(std::uint64_t page);
    /// The page was used in the round before this, and it was as it should be.
    void found_clean(std::uint64_t page);
    /// No other page was: in this round none needs a trial, but for what may have been replaced.
    void told() noexcept { told_ = true; }
    /// A hot page that is to be armed, which it is from now on; nothing if none is due. As many as
    /// have become hot in this round are due early: they may have taken the place of others.
    [[nodiscard]] std::optional<std::uint64_t> take_due();
    /// A round ends: what comes next is of the next one.
    void end_round();
    /// True where arming all hot pages at once, at `nanoseconds` for that, would have been cheaper
    /// than using those that were found clean since carriers lacked.
    [[nodiscard]] bool worth_arming_all(double nanoseconds) const noexcept;
    /// All of them are armed, by whatever means.
    void all_armed();

    /// The pages that are hot.
    [[nodiscard]] const PageSet& pages() const noexcept { return hot_; }
    /// The same as words, one behind the other: in most rounds no page becomes hot or is armed, and
    /// a list is read for less than a set. Until the next call.
    [[nodiscard]] std::span<const PageWord> words();
    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

  private:
    // What is known of a page, in a byte: nothing (0), or one of these with a level and the parity
    // of a round.
    static constexpr std::uint8_t seen = 0x20;   // written in that round, and armed again
    static constexpr std::uint8_t twice = 0xa0;  // the same, and written in the round before too
    static constexpr std::uint8_t hot = 0x40;    // at that level
    static constexpr std::uint8_t clean = 0x60;  // the same, and found clean
    static constexpr std::uint8_t trial = 0x80;  // was hot at that level, armed in that round
    static constexpr std::uint8_t kind_bits = 0xe0;
    static constexpr std::uint8_t level_bits = 0x0f;
    // A page of level 0 is tried in one round of so many, one of the last level in one of 32,768.
    static constexpr std::uint64_t period = 16;
    static constexpr unsigned levels = 12;

    /// Pages that are alike in what is known of them. Some stay armed, to see how many are written
    /// in the next round too; what is long ago fades.
    struct Class {
        double came_back = 0;
        double could_have = 0;
        std::uint64_t returned = 0;                 // in this round, not yet part of the above
        std::array<std::uint64_t, 2> members = {};  // that could, by the round's parity
        std::uint64_t asked = 0;
    };

    [[nodiscard]] std::uint8_t parity() const noexcept { return (round_ & 1) != 0 ? 0x10 : 0; }
    [[nodiscard]] bool pays(Class& pages) const noexcept;
    bool make_hot(std::uint64_t page, unsigned level);
    bool written_while_armed(std::uint64_t page, Class& pages, std::uint8_t kind);
    /// Whether this round is one of so many, by the page, so that all have their turns apart.
    [[nodiscard]] bool turn(std::uint64_t page, std::uint64_t rounds) const noexcept {
        return (page + round_) % rounds == 0;
    }
    [[nodiscard]] bool due(std::uint64_t page) const noexcept;
    void list_trials();
    void arm(std::uint64_t page);

    PageSet hot_;
    std::vector<PageWord> words_;  // of hot_, unless it has changed since
    bool changed_ = false;
    std::vector<std::uint8_t> known_;  // by page
    std::uint64_t most_;
    std::uint64_t size_ = 0;
    std::uint64_t round_ = 0;
    std::uint64_t new_ones_ = 0;  // hot since this round began, and no other armed for them
    HotPageCosts costs_;
    bool told_ = false;
    std::vector<std::uint64_t> clean_;  // found so, and believed; not yet armed
    // Pages to be tried in this round, once some could be: the first `due_` of them in any case,
    // the others only if pages have become hot.
    std::vector<std::uint64_t> to_try_;
    bool listed_ = false;
    std::size_t due_ = 0;
    std::size_t next_try_ = 0;
    std::uint64_t hand_ = 0;  // the first page that has not been tried early, in this lap
    std::array<std::vector<std::uint64_t>, 2> seen_;    // by the round's parity
    std::array<std::vector<std::uint64_t>, 2> trials_;  // armed in that round
    double wasted_ = 0;  // nanoseconds, on pages that were found clean
    Class once_;         // pages written in a round and not in the one before
    Class twice_{2, 3};  // those written in both; as Laplace would guess from that
};

}  // namespace dirtyring
