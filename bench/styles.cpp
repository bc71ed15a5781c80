// SPDX-License-Identifier: MIT
#include "styles.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>

namespace dirtyring::bench {

// Read for each entry, as QEMU's trace points do; external so that the compiler must look.
extern int trace_events_enabled;
int trace_events_enabled = 0;

namespace {

// SAFETY (all uses of atomic_ref here): entries of a live array, each word aligned for its size.
std::uint32_t load_acquire(std::uint32_t& word) {
    return std::atomic_ref(word).load(std::memory_order_acquire);
}

void store_release(std::uint32_t& word, std::uint32_t value) {
    std::atomic_ref(word).store(value, std::memory_order_release);
}

// Must not be reached: what a trace point does when tracing is on.
[[gnu::noinline]] void trace(std::uint32_t index, std::uint64_t offset) {
    std::atomic_ref(trace_events_enabled).fetch_add(static_cast<int>(index + offset));
}

}  // namespace

FlatBitmaps::FlatBitmaps(const MemoryMap& map) {
    for (const MemorySlot& slot : map.slots()) {
        const std::size_t id = slot.slot;
        words_.resize(std::max(words_.size(), id + 1));
        words_[id].resize((slot.pages() + 63) / 64);
    }
}

std::uint64_t FlatBitmaps::count() const noexcept {
    std::uint64_t sum = 0;
    for (const auto& words : words_) {
        for (const std::uint64_t word : words) {
            sum += static_cast<std::uint64_t>(std::popcount(word));
        }
    }
    return sum;
}

void FlatBitmaps::clear() noexcept {
    for (auto& words : words_) {
        std::ranges::fill(words, 0);
    }
}

QemuStyle::QemuStyle(std::span<kvm_dirty_gfn> ring, const MemoryMap& map)
    : bitmaps_(map), ring_(ring.data()) {
    for (const MemorySlot& slot : map.slots()) {
        slots_.resize(std::max(slots_.size(), std::size_t{slot.slot} + 1));
        Slot& mine = slots_[slot.slot];
        mine.memory_size = slot.size;
        mine.dirty_bitmap = bitmaps_.of(slot.slot).data();
    }
    listener_ = {slots_.data(), 0};
    space_ = {&listener_, nullptr};
    state_ = {1, &space_, static_cast<std::uint32_t>(ring.size())};
}

void QemuStyle::mark_page(const State& state, std::uint32_t space, std::uint32_t slot,
                          std::uint64_t offset) {
    if (space >= state.address_spaces) {
        return;
    }
    const Slot& mine = state.spaces[space].listener->slots[slot];
    if (mine.memory_size == 0 ||
        offset >= mine.memory_size / static_cast<std::uint64_t>(::getpagesize())) {
        return;
    }
    mine.dirty_bitmap[offset / 64] |= std::uint64_t{1} << (offset % 64);
}

std::uint32_t QemuStyle::harvest() {
    const std::uint32_t ring_size = state_.ring_size;
    std::uint32_t fetch = fetch_index_;
    std::uint32_t count = 0;
    for (;;) {
        kvm_dirty_gfn& entry = ring_[fetch % ring_size];
        if (load_acquire(entry.flags) != KVM_DIRTY_GFN_F_DIRTY) {
            break;
        }
        mark_page(state_, entry.slot >> 16, entry.slot & 0xffff, entry.offset);
        store_release(entry.flags, KVM_DIRTY_GFN_F_RESET);
        if (trace_events_enabled != 0) {
            trace(fetch, entry.offset);
        }
        ++fetch;
        ++count;
    }
    fetch_index_ = fetch;
    return count;
}

KvmIoctlsStyle::KvmIoctlsStyle(std::span<kvm_dirty_gfn> ring, const MemoryMap& map)
    : bitmaps_(map), ring_(ring.data()), mask_(ring.size() - 1) {}

// rustc 1.95 -O makes three loads and three stores of a volatile copy of this struct, and so does
// this.
KvmIoctlsStyle::Item KvmIoctlsStyle::next() noexcept {
    volatile kvm_dirty_gfn& entry = ring_[next_dirty_ & mask_];
    if (use_acq_rel_) {
        std::atomic_thread_fence(std::memory_order_acquire);
    }
    const kvm_dirty_gfn copy{entry.flags, entry.slot, entry.offset};
    if ((copy.flags & KVM_DIRTY_GFN_F_DIRTY) == 0) {
        return {false, 0, 0};
    }
    ++next_dirty_;
    entry.flags = copy.flags ^ KVM_DIRTY_GFN_F_RESET;
    entry.slot = copy.slot;
    entry.offset = copy.offset;
    if (use_acq_rel_) {
        std::atomic_thread_fence(std::memory_order_release);
    }
    return {true, copy.slot, copy.offset};
}

std::uint32_t KvmIoctlsStyle::harvest() {
    std::uint32_t count = 0;
    // Its DIRTY bit stays set beside RESET, so a completely full ring would never end: the reader
    // has to stop after one ring's worth.
    for (; count <= mask_; ++count) {
        const Item item = next();
        if (!item.some) {
            break;
        }
        bitmaps_.set(item.slot, item.offset);
    }
    return count;
}

std::uint32_t BareLoop::harvest() {
    std::uint64_t sum = 0;
    for (kvm_dirty_gfn& entry : ring_) {
        if (load_acquire(entry.flags) != KVM_DIRTY_GFN_F_DIRTY) {
            break;
        }
        sum += entry.slot + entry.offset;
        store_release(entry.flags, KVM_DIRTY_GFN_F_RESET);
    }
    sum_ = sum;
    return static_cast<std::uint32_t>(ring_.size());
}

std::uint32_t BareBitmap::harvest() {
    std::uint64_t* const words = words_.data();
    for (kvm_dirty_gfn& entry : ring_) {
        if (load_acquire(entry.flags) != KVM_DIRTY_GFN_F_DIRTY) {
            break;
        }
        const std::uint64_t page = entry.offset;
        store_release(entry.flags, KVM_DIRTY_GFN_F_RESET);
        words[page / 64] |= std::uint64_t{1} << (page % 64);
    }
    return static_cast<std::uint32_t>(ring_.size());
}

void BareBitmap::clear() noexcept {
    std::ranges::fill(words_, 0);
}

}  // namespace dirtyring::bench
