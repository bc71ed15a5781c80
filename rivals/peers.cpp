// SPDX-License-Identifier: MIT
#include "peers.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace dirtyring::bench {

namespace {

Error failed(const char* call) {
    return {errno, call, {}, {}};
}

Error out_of_step(const char* how) {
    return {0, "read the ring in the style of QEMU-Nyx", how, {}};
}

}  // namespace

NyxStyle::NyxStyle(machine::Machine& machine, kvm::Mapping ring)
    : vm_(machine.vm().fd().get()),
      mapping_(std::move(ring)),
      // SAFETY: the kernel lays kvm_dirty_gfn out from the mapping's start, which is page-aligned.
      ring_(static_cast<kvm_dirty_gfn*>(mapping_.address())),
      mask_(machine.vm().dirty_ring_entries() - 1) {
    for (const MemorySlot& slot : machine.memory().slots()) {
        slots_.resize(std::max<std::size_t>(slots_.size(), slot.slot + 1));
        slots_[slot.slot] = {.base = slot.guest_address,
                             .bitmap = std::vector<std::uint64_t>((slot.pages() + 63) / 64),
                             .stack = std::vector<std::uint64_t>(slot.pages())};
    }
}

Result<NyxStyle> NyxStyle::create(machine::Machine& machine) {
    // SAFETY: the size that enable_dirty_ring gave each ring of this VM.
    Result<kvm::Mapping> ring = kvm::Mapping::map(
        machine.vcpu(0).fd(), machine.vm().dirty_ring_entries() * sizeof(kvm_dirty_gfn),
        KVM_DIRTY_LOG_PAGE_OFFSET * ::sysconf(_SC_PAGESIZE), "dirty ring");
    if (!ring) {
        return fail(std::move(ring.error()));
    }
    return NyxStyle(machine, std::move(*ring));
}

void NyxStyle::note(std::uint32_t slot, std::uint64_t page) {
    Slot& mine = slots_[slot & 0xffff];
    std::uint64_t& word = mine.bitmap[page / 64];
    const std::uint64_t bit = std::uint64_t{1} << (page % 64);
    const bool known = (word & bit) != 0;
    word |= bit;
    if (!known) {
        mine.stack[mine.stacked] = page;
        ++mine.stacked;
    }
}

Result<void> NyxStyle::collect() {
    int taken = 0;
    for (;;) {
        kvm_dirty_gfn& entry = ring_[index_ & mask_];
        if ((entry.flags & (KVM_DIRTY_GFN_F_DIRTY | KVM_DIRTY_GFN_F_RESET)) == 0) {
            break;
        }
        if ((entry.flags & KVM_DIRTY_GFN_F_DIRTY) == 0) {
            return fail(out_of_step("an entry is waiting for its reset"));
        }
        note(entry.slot, entry.offset);
        ++taken;
        entry.flags |= KVM_DIRTY_GFN_F_RESET;
        ++index_;
    }
    // SAFETY: KVM_RESET_DIRTY_RINGS takes no argument.
    const int reset = ::ioctl(vm_, KVM_RESET_DIRTY_RINGS, 0);
    if (reset < 0) {
        return fail(failed("KVM_RESET_DIRTY_RINGS"));
    }
    if (reset != taken) {
        return fail(out_of_step("the kernel reset another number of entries than were read"));
    }
    return {};
}

Result<void> NyxStyle::done() {
    for (Slot& slot : slots_) {
        for (std::uint64_t i = 0; i < slot.stacked; ++i) {
            const std::uint64_t page = slot.stack[i];
            slot.bitmap[page / 64] &= ~(std::uint64_t{1} << (page % 64));
        }
        slot.stacked = 0;
    }
    return {};
}

WtfStyle::WtfStyle(machine::Machine& machine, WtfKey key)
    : vm_(machine.vm().fd().get()), shift_(key == WtfKey::address ? 0 : 12) {
    for (const MemorySlot& slot : machine.memory().slots()) {
        regions_.push_back({.slot = slot.slot,
                            .base = slot.guest_address,
                            .pages = slot.pages(),
                            .bitmap = std::vector<std::uint64_t>((slot.pages() + 63) / 64)});
    }
}

Result<void> WtfStyle::collect() {
    for (Region& region : regions_) {
        kvm_dirty_log log{};
        log.slot = region.slot;
        log.dirty_bitmap = region.bitmap.data();
        // SAFETY: the bitmap has a bit for each page of the slot, in whole words.
        if (::ioctl(vm_, KVM_GET_DIRTY_LOG, &log) < 0) {
            return fail(failed("KVM_GET_DIRTY_LOG"));
        }
        for (std::uint64_t index = 0; index < region.bitmap.size(); ++index) {
            const std::uint64_t word = region.bitmap[index];
            if (word == 0) {
                continue;
            }
            for (std::uint64_t bit = 0; bit < 64; ++bit) {
                if ((word >> bit & 1) != 0) {
                    dirty_.emplace((region.base + (index * 64 + bit) * page_size) >> shift_);
                }
            }
        }
    }
    return {};
}

Result<void> WtfStyle::done() {
    for (Region& region : regions_) {
        kvm_clear_dirty_log log{};
        log.slot = region.slot;
        log.num_pages = static_cast<std::uint32_t>(region.pages);
        log.first_page = 0;
        log.dirty_bitmap = region.bitmap.data();
        // SAFETY: the bitmap is the whole slot's; the kernel only reads it.
        if (::ioctl(vm_, KVM_CLEAR_DIRTY_LOG, &log) < 0) {
            return fail(failed("KVM_CLEAR_DIRTY_LOG"));
        }
    }
    dirty_.clear();
    return {};
}

}  // namespace dirtyring::bench
