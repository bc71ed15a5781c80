// SPDX-License-Identifier: MIT
//
// The dirty pages of a whole VM: a PageSet for each memory slot.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "dirtyring/memory.hpp"
#include "dirtyring/page_set.hpp"

namespace dirtyring {

/// Neighbouring pages of one slot.
struct PageRun {
    const MemorySlot* slot;
    std::uint64_t first;  ///< page number in the slot
    std::uint64_t count;  ///< pages

    [[nodiscard]] std::uint64_t guest_address() const noexcept {
        return slot->guest_address + first * page_size;
    }
    /// The pages' content, in this process.
    [[nodiscard]] std::span<std::byte> host() const noexcept {
        return {slot->host + first * page_size, count * page_size};
    }
};

/// Not thread-safe; any one thread at a time.
class DirtySet {
  public:
    /// A set over no slots.
    DirtySet() = default;
    /// An empty set over the slots that `map` has now.
    explicit DirtySet(const MemoryMap& map);

    /// Makes this an empty set over the slots of `map`. Allocates only where it was over others.
    void prepare(const MemoryMap& map);

    [[nodiscard]] const MemoryMap& memory() const noexcept { return map_; }
    /// The pages of memory().slots()[place].
    [[nodiscard]] PageSet& pages(std::size_t place) noexcept {
        const std::uint32_t slot = map_.slots()[place].slot;
        return sets_[slot >> 16][slot & 0xffff];
    }
    [[nodiscard]] const PageSet& pages(std::size_t place) const noexcept {
        const std::uint32_t slot = map_.slots()[place].slot;
        return sets_[slot >> 16][slot & 0xffff];
    }
    /// Pages in all slots.
    [[nodiscard]] std::uint64_t size() const noexcept;

    /// Adds page `offset` of `slot` (address space << 16 | slot id). True where it was not in the
    /// set before; a slot or page that does not exist is counted as stale and never followed.
    bool insert(std::uint32_t slot, std::uint64_t offset) noexcept;
    /// For many inserts in a row.
    class Inserter;
    /// Adds every page of every slot.
    void insert_all() noexcept;
    /// Adds the pages of a set over the same slots.
    void merge(const DirtySet& other) noexcept;
    void clear() noexcept;

    /// How many inserts named no page since the last clear().
    [[nodiscard]] std::uint64_t stale() const noexcept { return stale_; }

    /// Calls use(PageRun) for each run of neighbouring pages, by slot in the order of
    /// memory().slots(), then by page. Runs with at most `gap` clean pages between them come as
    /// one.
    template <typename Use>
    void for_each_run(Use&& use, std::uint64_t gap = 0) const {
        for (std::size_t place = 0; place < map_.slots().size(); ++place) {
            const MemorySlot& slot = map_.slots()[place];
            pages(place).for_each_run(
                [&](std::uint64_t first, std::uint64_t count) {
                    use(PageRun{&slot, first, count});
                },
                gap);
        }
    }

  private:
    MemoryMap map_;
    // By address space, then by slot id, of no pages where an id is not taken: this is how entries
    // name a slot, and those of a guest above 3 GiB name its two slots in turn.
    std::vector<PageSet> sets_[2];
    std::uint64_t stale_ = 0;
};

/// Inserts entries in a loop whose speed counts: what the slot at hand needs is in registers. The
/// set is not used otherwise meanwhile, and is right again after finish().
class DirtySet::Inserter {
  public:
    explicit Inserter(DirtySet& set) noexcept : set_(set) {}

    /// As DirtySet::insert.
    [[gnu::always_inline]] bool insert(std::uint32_t slot, std::uint64_t offset) noexcept {
        if (slot != slot_) {
            fresh_ += pages_.finish();
            enter(slot);
        }
        if (offset >= capacity_) [[unlikely]] {
            ++stale_;
            return false;
        }
        return pages_.insert(offset);
    }

    /// Ends it; gives how many of the pages were not in the set before.
    std::uint64_t finish() noexcept {
        set_.stale_ += stale_;
        return fresh_ + pages_.finish();
    }

  private:
    void enter(std::uint32_t slot) noexcept {
        const std::size_t space = slot >> 16;
        const std::size_t id = slot & 0xffff;
        slot_ = slot;
        if (space < 2 && id < set_.sets_[space].size()) {
            PageSet& pages = set_.sets_[space][id];
            capacity_ = pages.capacity();
            pages_ = PageSet::Inserter(pages);
        } else {
            capacity_ = 0;
            pages_ = PageSet::Inserter();
        }
    }

    static constexpr std::uint64_t no_slot = ~std::uint64_t{0};  // wider than any slot in an entry

    DirtySet& set_;
    std::uint64_t slot_ = no_slot;
    std::uint64_t capacity_ = 0;  // of the slot's pages; 0 where there is no such slot
    PageSet::Inserter pages_;
    std::uint64_t fresh_ = 0;  // of the slots before
    std::uint64_t stale_ = 0;
};

}  // namespace dirtyring
