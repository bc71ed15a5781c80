// SPDX-License-Identifier: MIT
//
// The dirty pages of a whole VM, by memory slot.
//
// One PageSet holds the pages of all slots, each slot's from a block of its own on. What an entry
// of a ring names is found by two loads from a small table, whichever slot the entry before was of:
// the entries of a guest above 3 GiB name its two slots in no order that a CPU could guess.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "dirtyring/memory.hpp"
#include "dirtyring/page_set.hpp"

namespace dirtyring {

/// Neighbouring pages of one slot.
struct PageRun {
    const MemorySlot* slot;
    std::uint64_t first;  ///< page number in the slot
    std::uint64_t count;  ///< pages
    /// Of the first byte, in a file that has all of memory: MemoryMap::file_offset.
    std::uint64_t file_offset;

    [[nodiscard]] std::uint64_t guest_address() const noexcept {
        return slot->guest_address + first * page_size;
    }
    /// The pages' content, in this process.
    [[nodiscard]] std::span<std::byte> host() const noexcept {
        return {slot->host + first * page_size, count * page_size};
    }
};

/// The pages of one slot in a DirtySet. Valid while the set is there and over the same slots.
class SlotPages {
  public:
    SlotPages(const PageSet& set, std::uint64_t first, std::uint64_t pages) noexcept
        : set_(&set), first_(first), end_(first + pages) {}

    /// Pages in the set. Costs what walking them costs.
    [[nodiscard]] std::uint64_t size() const noexcept { return set_->size(first_, end_); }
    /// `page` must be below the slot's pages.
    [[nodiscard]] bool contains(std::uint64_t page) const noexcept {
        return set_->contains(first_ + page);
    }
    /// As PageSet's, by page numbers in the slot.
    template <typename Use>
    void for_each(Use&& use) const {
        set_->for_each([&](std::uint64_t page) { use(page - first_); }, first_, end_);
    }
    template <typename Use>
    void for_each_word(Use&& use) const {
        set_->for_each_word(
            [&](std::size_t index, std::uint64_t bits) { use(index - first_ / 64, bits); }, first_,
            end_);
    }
    template <typename Use>
    void for_each_run(Use&& use, std::uint64_t gap = 0) const {
        set_->for_each_run(
            [&](std::uint64_t first, std::uint64_t count) { use(first - first_, count); }, gap,
            first_, end_);
    }
    /// Writes the pages down as KVM_GET_DIRTY_LOG does: bit i of word n is page 64 * n + i.
    /// `bitmap` has a word for each 64 pages of the slot, rounded up.
    void copy_bitmap(std::span<std::uint64_t> bitmap) const noexcept {
        std::ranges::fill(bitmap, 0);
        for_each_word([&](std::size_t index, std::uint64_t bits) { bitmap[index] = bits; });
    }

  private:
    const PageSet* set_;
    std::uint64_t first_;
    std::uint64_t end_;
};

/// Not thread-safe; any one thread at a time.
class DirtySet {
  public:
    /// A set over no slots.
    DirtySet() = default;
    /// An empty set over the slots that `map` has now.
    explicit DirtySet(MemoryMap map);

    /// Makes this an empty set over the slots of `map`. Allocates only where it was over others.
    void prepare(const MemoryMap& map);

    [[nodiscard]] const MemoryMap& memory() const noexcept {
        return layout_ ? layout_->map : no_slots();
    }
    /// The pages of memory().slots()[place].
    [[nodiscard]] SlotPages pages(std::size_t place) const noexcept {
        const Room& room = this->room(memory().slots()[place].slot);
        return {set_, room.first, room.pages};
    }
    /// Pages in all slots. Costs what walking them costs.
    [[nodiscard]] std::uint64_t size() const noexcept { return set_.size(); }
    /// True where nothing has been added since the last clear(). Costs no walk.
    [[nodiscard]] bool empty() const noexcept { return set_.empty(); }

    /// Adds page `offset` of `slot` (address space << 16 | slot id). True where it was not in the
    /// set before; a slot or page that does not exist is counted as stale and never followed.
    bool insert(std::uint32_t slot, std::uint64_t offset) noexcept;
    /// For many inserts in a row.
    class Inserter;
    /// Adds pages of memory().slots()[place] from a dirty bitmap: see PageSet::insert_word.
    void insert_word(std::size_t place, std::size_t index, std::uint64_t bits) noexcept;
    /// Adds every page of every slot.
    void insert_all() noexcept;
    /// Adds the pages first .. end - 1 of memory().slots()[place].
    void insert_range(std::size_t place, std::uint64_t first, std::uint64_t end) noexcept;
    /// Adds the pages of a set over the same slots.
    void merge(const DirtySet& other) noexcept;
    /// Adds the pages of a set over slots that have changed since, as far as they are still there:
    /// in a slot of the same id over the same host memory, and not past its end.
    void merge_over(const DirtySet& before) noexcept;
    /// Adds every page that the slots of `before` did not have, or had at another guest address or
    /// another place in a file (MemoryMap::file_offset).
    void insert_unknown_to(const MemoryMap& before) noexcept;
    /// Takes all pages out; gives how many there were.
    std::uint64_t clear() noexcept;

    // Each page has a number, below numbers(), for what is kept of it elsewhere.

    static constexpr std::uint64_t no_number = ~std::uint64_t{0};
    [[nodiscard]] std::uint64_t numbers() const noexcept { return set_.capacity(); }
    /// Of page `offset` of `slot`, as in insert; no_number where there is none.
    [[nodiscard]] std::uint64_t number(std::uint32_t slot, std::uint64_t offset) const noexcept {
        const Room& room = this->room(slot);
        return offset < room.pages ? room.first + offset : no_number;
    }
    /// True where the page was not in the set before.
    bool insert_number(std::uint64_t number) noexcept { return set_.insert(number); }
    [[nodiscard]] bool contains_number(std::uint64_t number) const noexcept {
        return set_.contains(number);
    }
    /// Calls use(number) for each page, in order.
    template <typename Use>
    void for_each_number(Use&& use) const {
        set_.for_each(std::forward<Use>(use));
    }
    /// Adds the pages of these numbers.
    void merge(std::span<const PageWord> numbers) { set_.merge(numbers); }

    /// How many inserts named no page since the last clear().
    [[nodiscard]] std::uint64_t stale() const noexcept { return stale_; }

    /// Calls use(PageRun) for each run of neighbouring pages, by slot in the order of
    /// memory().slots(), then by page. Runs with at most `gap` clean pages between them come as
    /// one.
    template <typename Use>
    void for_each_run(Use&& use, std::uint64_t gap = 0) const {
        const MemoryMap& map = memory();
        for (std::size_t place = 0; place < map.slots().size(); ++place) {
            const MemorySlot& slot = map.slots()[place];
            pages(place).for_each_run(
                [&](std::uint64_t first, std::uint64_t count) {
                    use(PageRun{&slot, first, count, map.file_offset({place, first * page_size})});
                },
                gap);
        }
    }

  private:
    /// Where a slot's pages are in the set.
    struct Room {
        std::uint64_t first = 0;
        std::uint64_t pages = 0;  // 0: there is no such slot
    };
    /// Never changed once it is made, so that a set can be handed on by a few words.
    struct Layout {
        MemoryMap map;
        std::vector<Room> rooms;      // by slot id, of address space 0
        std::vector<Room> smm_rooms;  // and of address space 1, which entries hardly ever name
    };
    [[nodiscard]] static const MemoryMap& no_slots() noexcept;
    [[nodiscard]] std::span<const Room> rooms() const noexcept {
        return layout_ ? std::span<const Room>(layout_->rooms) : std::span<const Room>();
    }
    [[nodiscard]] const Room& room(std::uint32_t slot) const noexcept {
        const std::span<const Room> rooms = this->rooms();
        return slot < rooms.size() ? rooms[slot] : smm_room(slot);
    }
    [[nodiscard]] const Room& smm_room(std::uint32_t slot) const noexcept;

    std::shared_ptr<const Layout> layout_;  // null: no slots
    PageSet set_;
    std::uint64_t stale_ = 0;
};

/// Inserts entries in a loop whose speed counts: what it needs of the set is in registers. The set
/// is not used otherwise meanwhile, and its stale() is right again after finish().
class DirtySet::Inserter {
  public:
    explicit Inserter(DirtySet& set) noexcept : set_(set), rooms_(set.rooms()), pages_(set.set_) {}

    /// As DirtySet::insert. Who does not use the result does not pay for it.
    [[gnu::always_inline]] bool insert(std::uint32_t slot, std::uint64_t offset) noexcept {
        const Room* room = nullptr;
        if (slot < rooms_.size()) [[likely]] {
            room = &rooms_[slot];
        } else {
            room = &set_.smm_room(slot);
        }
        if (offset >= room->pages) [[unlikely]] {
            ++stale_;
            return false;
        }
        return pages_.insert(room->first + offset);
    }

    void finish() noexcept { set_.stale_ += stale_; }

  private:
    DirtySet& set_;
    std::span<const Room> rooms_;
    PageSet::Inserter pages_;
    std::uint64_t stale_ = 0;
};

}  // namespace dirtyring
